"""What an operator does with Azure's own service client, unmodified, against the stand-in hub and a real agent.

Run by tests/azure_service.rs, which starts the stand-in. The middle of it is the back end of Azure's tutorial on device
management: invoke `rebootDevice`, print the answer, look at the twin until `rebootTime` is there. The agent is the program
itself, configured as a person would configure it. Ends with 0 if all was as it should be; an error says what was not.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import signal
import ssl
import subprocess

import requests
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, ExportImportDevice, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import ClientRequestError, HttpOperationError

from agent import Agent, wait

DEVICE = "gw-1"
# What the back end of the tutorial sends: not an object, but a text that holds one.
TUTORIAL = '{"method_number":"42"}'
# Seconds for all of it, after which the agent is ended, too.
LONGEST = 200


def code_of(error):
    """The hub's own code: in a text in JSON, with JSON in it."""
    return json.loads(error.response.json()["Message"])["errorCode"]


def refused(call, status, code):
    """Calls what the hub must refuse in this way."""
    try:
        answer = call()
    except HttpOperationError as error:
        told = error.response
        assert (told.status_code, code_of(error)) == (status, code), (told.status_code, told.text)
        assert told.headers["iothub-errorcode"], told.headers
    else:
        raise AssertionError(f"it was not refused: {answer}")


class Operator:
    """The calls of the client library."""

    def __init__(self, hub):
        """`hub`: the connection string of a policy."""
        self.registry = IoTHubRegistryManager.from_connection_string(hub)

    def create(self, device):
        """The device, with keys that the hub has drawn; its primary key."""
        made = self.registry.create_device_with_sas(device, "", "", "enabled")
        assert (made.device_id, made.status, made.connection_state) == (device, "enabled", "Disconnected"), made
        key = made.authentication.symmetric_key
        assert key.primary_key and key.secondary_key and key.primary_key != key.secondary_key, "two keys are drawn"
        return key.primary_key

    def invoke(self, device, method, payload=None, seconds=None):
        """`device` may be a module of one: `device/module`."""
        request = CloudToDeviceMethod(method_name=method, payload=payload, response_timeout_in_seconds=seconds)
        device, _, module = device.partition("/")
        if module:
            return self.registry.invoke_device_module_method(device, module, request)
        return self.registry.invoke_device_method(device, request)

    def twin(self, device):
        return self.registry.get_twin(device)

    def reported(self, device):
        return self.twin(device).properties.reported

    def desire(self, device, desired, etag=None):
        return self.registry.update_twin(device, Twin(properties=TwinProperties(desired=desired)), etag)

    def until_reported(self, device, what, fits):
        """The first reported document that is as `fits` wants it."""

        def look():
            reported = self.reported(device)
            return reported if fits(reported) else None

        return wait(what, look)

    def until_it_takes_methods(self, device, method="echo"):
        """Invokes a harmless method until somebody is there to answer; the answer."""

        def try_it():
            try:
                return self.invoke(device, method, {"are you": "there"}, 5)
            except HttpOperationError as error:
                # It is not there, or the connection ended under the call, as it does when a token is renewed.
                assert code_of(error) in (404103, 504101), error.response.text
                return None

        return wait(f"{device} takes methods", try_it)


def the_tutorial(operator, device):
    """Reboots the device as the tutorial does; the answer and the `rebootTime` that came of it."""
    before = operator.reported(device).get("rebootTime")
    answer = operator.invoke(device, "rebootDevice", TUTORIAL)
    print(f"Direct Method called: {answer.status} {answer.payload}")

    def is_new(reported):
        return reported.get("rebootTime") not in (None, before)

    reported = operator.until_reported(device, "a new rebootTime", is_new)
    print("Last reboot time: " + reported["rebootTime"])
    return answer, reported


def identities(operator):
    """Devices and modules: made, read, changed, listed, deleted."""
    registry = operator.registry
    refused(lambda: operator.create(DEVICE), 409, 409001)
    refused(lambda: registry.get_device("nobody"), 404, 404001)

    device = registry.get_device(DEVICE)
    key = device.authentication.symmetric_key
    changed = registry.update_device_with_sas(
        DEVICE, device.etag, key.primary_key, key.secondary_key, "enabled", status_reason="new"
    )
    assert (changed.status_reason, changed.generation_id) == ("new", device.generation_id), changed
    stale = [DEVICE, device.etag, key.primary_key, key.secondary_key, "disabled"]
    refused(lambda: registry.update_device_with_sas(*stale), 412, 412001)

    registry.create_device_with_x509("sensor-1", "AB" * 20, "CD" * 20, "enabled")
    done = registry.bulk_create_or_update_devices(
        [ExportImportDevice(id="sensor-2", import_mode="create", status="enabled")]
    )
    assert done.is_successful and not done.errors, done
    assert sorted(found.device_id for found in registry.get_devices()) == [DEVICE, "sensor-1", "sensor-2"]
    counts = registry.get_device_registry_statistics()
    assert (counts.total_device_count, counts.disabled_device_count) == (3, 0), counts

    module = registry.create_module_with_sas(DEVICE, "app", "a test", "", "")
    assert (module.device_id, module.module_id, module.managed_by) == (DEVICE, "app", "a test"), module
    assert [found.module_id for found in registry.get_modules(DEVICE)] == ["app"]
    twin = registry.update_module_twin(DEVICE, "app", Twin(properties=TwinProperties(desired={"color": "blue"})))
    assert registry.get_module_twin(DEVICE, "app").properties.desired["color"] == "blue", twin
    nobody = CloudToDeviceMethod(method_name="echo")
    refused(lambda: registry.invoke_device_module_method(DEVICE, "app", nobody), 404, 404103)
    registry.delete_module(DEVICE, "app", module.etag)
    refused(lambda: registry.get_module(DEVICE, "app"), 404, 404010)


def queries(operator):
    """All twins by pages, and those that fit a condition."""

    def ask(query, most=None):
        items, pages, token = [], 0, None
        while pages == 0 or token:
            page = operator.registry.query_iot_hub(QuerySpecification(query=query), token, most)
            assert page.type.lower() == "twin" and (most is None or len(page.items) <= most), page
            items += [twin.device_id for twin in page.items]
            pages, token = pages + 1, page.continuation_token
        return sorted(items), pages

    assert ask("SELECT * FROM devices", 2) == ([DEVICE, "sensor-1", "sensor-2"], 2)
    operator.registry.update_twin("sensor-1", Twin(tags={"site": "attic"}))
    assert ask("SELECT * FROM devices WHERE tags.site = 'attic'") == (["sensor-1"], 1)
    refused(lambda: ask("DROP TABLE devices"), 400, 400004)


def desired_properties(operator):
    """The agent takes what is desired, by patch and by replacement, and says so."""

    def settled(what, old):
        def is_new(reported):
            desired = reported.get("desired", {})
            return desired.get("status") == 200 and desired.get("digest") not in (None, old)

        return operator.until_reported(DEVICE, what, is_new)["desired"]["digest"]

    old = operator.twin(DEVICE)
    before = operator.reported(DEVICE).get("desired", {}).get("digest")
    patched = operator.desire(DEVICE, {"color": "blue", "deep": {"a": 1, "b": [1, "two"]}}, old.etag)
    assert patched.properties.desired["$version"] == old.properties.desired["$version"] + 1, patched
    refused(lambda: operator.desire(DEVICE, {"color": "red"}, old.etag), 412, 412001)
    blue = settled("the digest of what was patched", before)

    patched = operator.desire(DEVICE, {"deep": None})
    assert set(patched.properties.desired) == {"color", "$metadata", "$version"}, patched.properties.desired
    red = settled("the digest without a member", blue)
    # As callers do it: with the whole twin as it was read.
    patched.properties.desired["color"] = "red"
    replaced = operator.registry.replace_twin(DEVICE, patched, patched.etag)
    assert replaced.properties.desired["color"] == "red", replaced.properties.desired
    settled("the digest of what replaced it", red)


def reboots(operator):
    """The tutorial's own story, and what stands in the twin afterwards."""
    began = datetime.datetime.now(datetime.timezone.utc)
    answer, reported = the_tutorial(operator, DEVICE)
    assert answer.status == 202, answer.payload
    command = answer.payload["commandId"]
    reported = operator.until_reported(
        DEVICE, "the outcome", lambda reported: reported["commands"].get(command, {}).get("status") == 200
    )
    assert reported["commands"][command]["method"] == "rebootDevice", reported["commands"]
    assert (reported["reboot"]["state"], reported["reboot"]["commandId"]) == ("completed", command), reported["reboot"]
    rebooted_at = datetime.datetime.fromisoformat(reported["rebootTime"].replace("Z", "+00:00"))
    assert began < rebooted_at <= datetime.datetime.now(datetime.timezone.utc), reported["rebootTime"]

    # It is the same device afterwards, and each call of a direct method is a command of its own.
    operator.until_it_takes_methods(DEVICE)
    again, _ = the_tutorial(operator, DEVICE)
    assert again.status == 202 and again.payload["commandId"] != command, again.payload


def secret(path, text):
    """A file that only its owner can read; its path, as TOML has it."""
    path.touch(0o600)
    path.write_text(text)
    return f'"{path}"'


def agent(given, name, lines):
    """An agent with a folder of this name, and these lines in its section about the hub."""
    folder = given.folder / name
    folder.mkdir()
    configuration = f"""
            {lines}
            ca_file = "{given.ca}"
            """
    return Agent(given.agent, folder, configuration)


def other_ways(operator, given):
    """The agent beside another program that is the device, and with a certificate where there is only the web."""
    module = operator.registry.create_module_with_sas(DEVICE, "agent", "a test", "", "")
    key = module.authentication.symmetric_key.primary_key
    text = f"HostName=localhost;DeviceId={DEVICE};ModuleId=agent;SharedAccessKey={key}\n"
    lines = f"""
            [cloud]
            kind = "iothub"
            [cloud.iothub]
            connection_string_file = {secret(given.folder / "of-the-module", text)}
            port = {given.port}
            """
    with agent(given, "module", lines).running():
        operator.until_it_takes_methods(f"{DEVICE}/agent")
        refused(lambda: operator.invoke(DEVICE, "echo"), 404, 404103)
        answer = operator.invoke(f"{DEVICE}/agent", "rebootDevice", TUTORIAL)
        assert answer.status == 202, answer.payload
        wait(
            "the rebootTime of the module",
            lambda: operator.registry.get_module_twin(DEVICE, "agent").properties.reported.get("rebootTime"),
        )

    chain, key, _, thumbprint = certificate(given.folder, "web-1")
    operator.registry.create_device_with_x509("web-1", thumbprint, thumbprint, "enabled")
    port = given.hub.split(";")[0].rpartition(":")[2]
    lines = f"""
            device.id = "web-1"
            [cloud]
            kind = "iothub"
            [cloud.iothub]
            host = "localhost"
            cert_file = "{chain}"
            cert_key_file = "{key}"
            websocket = true
            port = {port}
            """
    with agent(given, "web", lines).running():
        operator.until_it_takes_methods("web-1")
        answer, _ = the_tutorial(operator, "web-1")
        assert answer.status == 202, answer.payload
    operator.registry.delete_device("web-1")


def certificate(folder, name):
    """A self-signed certificate: its file, the file of its key, its SHA-1 and SHA-256 thumbprints."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    request += ["-days", "30", "-subj", f"/CN={name}", "-keyout", key, "-out", chain]
    subprocess.run(request, check=True, stderr=subprocess.DEVNULL)
    der = ssl.PEM_cert_to_DER_cert(chain.read_text())
    return chain, key, hashlib.sha1(der).hexdigest().upper(), hashlib.sha256(der).hexdigest().upper()


def story(operator, given):
    identities(operator)
    queries(operator)
    refused(lambda: operator.invoke(DEVICE, "echo"), 404, 404103)
    refused(lambda: operator.invoke("nobody", "echo"), 404, 404001)
    key = operator.registry.get_device(DEVICE).authentication.symmetric_key.primary_key
    text = f"HostName=localhost;DeviceId={DEVICE};SharedAccessKey={key}\n"
    lines = f"""
            [cloud]
            kind = "iothub"
            [cloud.iothub]
            connection_string_file = {secret(given.folder / "of-the-device", text)}
            port = {given.port}
            """
    with agent(given, "device", lines).running():
        there = operator.until_it_takes_methods(DEVICE)
        assert (there.status, there.payload) == (200, {"are you": "there"}), there
        assert operator.twin(DEVICE).connection_state == "Connected"
        assert operator.registry.get_service_statistics().connected_device_count == 1

        for payload in [None, "text", 4.5, [], {"nested": [None, True]}]:
            echoed = operator.invoke(DEVICE, "echo", payload, 5)
            # The client makes an empty text of no payload, and the agent no payload of that.
            assert (echoed.status, echoed.payload) == (200, payload), (payload, echoed.status, echoed.payload)
        unknown = operator.invoke(DEVICE, "noSuchMethod")
        assert unknown.status == 404 and unknown.payload, unknown

        desired_properties(operator)
        operator.until_it_takes_methods(DEVICE)
        reboots(operator)
    wait(
        "the hub sees that the agent has gone",
        lambda: True if operator.twin(DEVICE).connection_state == "Disconnected" else None,
    )
    refused(lambda: operator.invoke(DEVICE, "rebootDevice", TUTORIAL), 404, 404103)
    other_ways(operator, given)
    for device in [DEVICE, "sensor-1", "sensor-2"]:
        operator.registry.delete_device(device)
    refused(lambda: operator.twin(DEVICE), 404, 404001)


def strangers(hub):
    """Whom the hub does not know, and who does not know the hub."""
    parts = dict(part.split("=", 1) for part in hub.split(";"))
    wrong = hub.replace(parts["SharedAccessKey"], "d3Jvbmc=")
    refused(lambda: Operator(wrong).registry.get_devices(), 401, 401002)
    trusted = os.environ.pop("REQUESTS_CA_BUNDLE")
    try:
        Operator(hub).registry.get_devices()
    except (ClientRequestError, requests.exceptions.SSLError):
        pass
    else:
        raise AssertionError("a certificate of an unknown authority was taken")
    os.environ["REQUESTS_CA_BUNDLE"] = trusted


def too_long(*_):
    raise TimeoutError(f"not done within {LONGEST} s")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hub", required=True, help="the connection string of the hub's owner")
    arguments.add_argument("--ca", required=True, help="the certificate of the authority")
    arguments.add_argument("--port", required=True, help="where MQTT is served over TLS")
    arguments.add_argument("--agent", required=True, help="the program twinagent")
    arguments.add_argument("--folder", required=True, type=pathlib.Path, help="an empty folder")
    given = arguments.parse_args()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)

    strangers(given.hub)
    operator = Operator(given.hub)
    operator.create(DEVICE)
    story(operator, given)


if __name__ == "__main__":
    main()
