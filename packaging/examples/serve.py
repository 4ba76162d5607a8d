#!/usr/bin/env python3
"""Serves the method `readLoad` through twinagent on this machine, and goes on when the agent has been away.
Usage: serve.py [SOCKET], as root or as a member of `act_group` under [local].
"""
import json, os, socket, sys, time


def call(method, more=False, **parameters):
    """Calls a method of the agent and yields its replies."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(sys.argv[1] if len(sys.argv) > 1 else "/run/twinagent/io.twinagent.Agent")
        question = {"method": "io.twinagent.Agent." + method, "parameters": parameters, "more": more}
        agent.sendall(json.dumps(question).encode() + b"\0")
        rest = b""
        while received := agent.recv(65536):
            *frames, rest = (rest + received).split(b"\0")
            yield from map(json.loads, frames)


while True:
    try:
        for reply in call("Serve", more=True, methods=[{"name": "readLoad", "harmless": True, "timeLimitSeconds": 5}]):
            command = reply["parameters"]
            if "id" in command:
                next(call("Finish", run=command["run"], status=200, payload=os.getloadavg()), None)
            else:
                print(json.dumps(reply), flush=True)  # What is served, or an error: another program has the name.
    except OSError as error:
        print(error, flush=True)
    time.sleep(1)
