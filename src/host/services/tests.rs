//! Against a bus of the test's own.
