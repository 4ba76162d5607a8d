"""The agent as a program with folders of its own, for the scripts beside this file that play an operator or a cloud."""

import contextlib
import os
import subprocess
import time

# Seconds for what must come; far more than it takes.
PATIENCE = 30


def wait(what, look):
    """The first answer of `look` that is not None."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {PATIENCE} s")


class Agent:
    """The folders of one device, and the program."""

    def __init__(self, program, folder, configuration):
        self.program = program
        self.environment = dict(os.environ, TWINAGENT_LOG="info")
        for variable, name in [
            ("CONFIGURATION_DIRECTORY", "etc"),
            ("STATE_DIRECTORY", "state"),
            ("RUNTIME_DIRECTORY", "run"),
        ]:
            (folder / name).mkdir()
            self.environment[variable] = str(folder / name)
        (folder / "etc" / "twinagent.toml").write_text(
            f"""
            {configuration}
            [session]
            clock_wait = "0s"
            [reboot]
            mode = "simulate"
            simulate_for = "500ms"
            min_interval = "0s"
            grace = "0s"
            """
        )

    def new_key(self):
        """Makes the key of the device; the public half in PEM."""
        keygen = [self.program, "keygen"]
        return subprocess.run(keygen, env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    @contextlib.contextmanager
    def running(self):
        process = subprocess.Popen([self.program, "run"], env=self.environment)
        try:
            yield
            assert process.poll() is None, f"the agent ended by itself: {process.returncode}"
        finally:
            process.terminate()
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        assert code == 0, f"the agent ended with {code}"
