//! The stand-in cloud as a program.

fn main() {}
