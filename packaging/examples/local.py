#!/usr/bin/env python3
"""Reports a property, sends telemetry and follows the desired document, all through twinagent on this machine.

Usage: local.py [SOCKET], as root or as a member of `act_group` under [local].
"""
import json
import socket
import sys


def call(method, more=False, **parameters):
    """Calls a method of the agent and yields its replies."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(sys.argv[1] if len(sys.argv) > 1 else "/run/twinagent/io.twinagent.Agent")
        question = {"method": "io.twinagent.Agent." + method, "parameters": parameters, "more": more}
        agent.sendall(json.dumps(question).encode() + b"\0")
        rest = b""
        while received := agent.recv(65536):
            *frames, rest = (rest + received).split(b"\0")
            for reply in map(json.loads, frames):
                if "error" in reply:
                    sys.exit(f"{method}: {reply['error']} {reply['parameters']}")
                yield reply["parameters"]


next(call("Report", patch={"door": "open"}))
next(call("SendTelemetry", subfolder="alerts", text="the door is open"))
for desired in call("FollowDesired", more=True):
    print("desired:", json.dumps(desired["document"]), flush=True)
