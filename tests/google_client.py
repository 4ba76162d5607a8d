"""What an operator does with Google's own client library, unmodified, against the stand-in cloud and a real agent.

Run by tests/google_client.rs, which starts the stand-in. Ends with 0 if all was as it should be; an error says what
was not. The agent is the program itself, configured as a person would configure it.
"""

import argparse
import base64
import datetime
import hashlib
import json
import pathlib
import signal
import ssl

import google.oauth2.credentials
import google_auth_httplib2
import httplib2
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from agent import Agent, wait

PARENT = "projects/my-project/locations/us-central1"
REGISTRY = f"{PARENT}/registries/my-registry"
DEVICE = f"{REGISTRY}/devices/gw-1"

# Seconds for all of it, after which the agent is ended, too.
LONGEST = 150


def encoded(data):
    return base64.b64encode(data.encode()).decode()


def refused(call, code, status):
    """Executes a call that must be refused in this way."""
    try:
        answer = call.execute()
    except HttpError as error:
        told = json.loads(error.content)["error"]
        assert (error.resp.status, told["code"], told["status"]) == (code, code, status), told
        assert told["message"], told
    else:
        raise AssertionError(f"{call.uri} was not refused: {answer}")


def configuration(cloud):
    """What a person would write, with these lines about the cloud."""
    return f"""
            device.id = "gw-1"
            [cloud]
            kind = "iotcore"
            [cloud.iotcore]
            host = "localhost"
            {cloud}
            project_id = "my-project"
            region = "us-central1"
            registry_id = "my-registry"
            """


class Operator:
    """The calls of the client library."""

    def __init__(self, service):
        self.registries = service.projects().locations().registries()
        self.devices = self.registries.devices()

    def register(self, public_key):
        self.registries.create(parent=PARENT, body={"id": "my-registry"}).execute()
        credentials = [{"publicKey": {"format": "ES256_PEM", "key": public_key}}]
        body = {"id": "gw-1", "credentials": credentials, "metadata": {"site": "attic"}}
        made = self.devices.create(parent=REGISTRY, body=body).execute()
        assert made["id"] == "gw-1" and made["config"]["version"] == "1", made
        refused(self.devices.create(parent=REGISTRY, body=body), 409, "ALREADY_EXISTS")
        body["credentials"][0]["publicKey"]["key"] = "no key"
        refused(self.devices.create(parent=REGISTRY, body=dict(body, id="gw-2")), 400, "INVALID_ARGUMENT")

    def list(self):
        for name in ["sensor-1", "sensor-2"]:
            self.devices.create(parent=REGISTRY, body={"id": name}).execute()
        names, pages = [], 0
        call = self.devices.list(parent=REGISTRY, pageSize=2, fieldMask="metadata")
        while call is not None:
            page = call.execute()
            assert len(page["devices"]) <= 2 and all("credentials" not in device for device in page["devices"]), page
            names += [device["id"] for device in page["devices"]]
            pages += 1
            call = self.devices.list_next(call, page)
        assert (names, pages) == (["gw-1", "sensor-1", "sensor-2"], 2), (names, pages)
        chosen = self.devices.list(parent=REGISTRY, deviceIds=["sensor-2", "gw-1"]).execute()
        assert [device["id"] for device in chosen["devices"]] == ["gw-1", "sensor-2"], chosen
        registries = self.registries.list(parent=PARENT).execute()["deviceRegistries"]
        assert [registry["id"] for registry in registries] == ["my-registry"], registries

    def patch(self):
        body = {"metadata": {"site": "cellar"}, "blocked": True}
        self.devices.patch(name=DEVICE, updateMask="metadata", body=body).execute()
        device = self.device()
        assert device["metadata"] == {"site": "cellar"} and "blocked" not in device, device
        refused(self.devices.patch(name=DEVICE, updateMask="numId", body={"numId": "7"}), 400, "INVALID_ARGUMENT")

    def configure(self, data, version):
        """Gives the device its configuration, if the newest is this version."""
        body = {"binaryData": encoded(data), "versionToUpdate": str(version)}
        return self.devices.modifyCloudToDeviceConfig(name=DEVICE, body=body)

    def command(self, subfolder, data=""):
        body = {"binaryData": encoded(data)} | ({"subfolder": subfolder} if subfolder else {})
        return self.devices.sendCommandToDevice(name=DEVICE, body=body)

    def device(self):
        return self.devices.get(name=DEVICE).execute()

    def config_versions(self):
        """The newest first."""
        return self.devices.configVersions().list(name=DEVICE).execute()["deviceConfigs"]

    def states(self):
        """The reported documents, the newest first."""
        states = self.devices.states().list(name=DEVICE).execute().get("deviceStates", [])
        return [json.loads(base64.b64decode(state["binaryData"])) for state in states]

    def document(self, what, fits):
        """The first reported document that is as `fits` wants it."""
        return wait(what, lambda: next((document for document in self.states() if fits(document)), None))

    def takes_commands(self):
        """Sends `echo` until the device is there to answer."""

        def try_it():
            try:
                return self.command("echo").execute()
            except HttpError as error:
                assert json.loads(error.content)["error"]["status"] == "FAILED_PRECONDITION", error
                return None

        wait("the device takes commands", try_it)

    def refuses_commands(self):
        """Sends `echo` until the cloud has seen that the device is gone."""

        def try_it():
            try:
                self.command("echo").execute()
            except HttpError as error:
                return error
            return None

        wait("the device is known to be gone", try_it)


def configured(operator, data):
    """The device has acknowledged the configuration, and says which one it has."""
    version = wait(
        "the device acknowledges the configuration",
        lambda: next((newest for newest in operator.config_versions()[:1] if "deviceAckTime" in newest), None),
    )
    assert base64.b64decode(version["binaryData"]).decode() == data, version
    assert operator.device()["lastConfigAckTime"], "the device's own field"
    digest = "sha256:" + hashlib.sha256(data.encode()).hexdigest()
    operator.document("the digest of the configuration", lambda document: document["desired"].get("digest") == digest)


def rebooted(operator, subfolder, data, is_it):
    """Sends one rebootDevice and reads the proof of it."""
    operator.takes_commands()
    before = datetime.datetime.now(datetime.timezone.utc)
    assert operator.command(subfolder, data).execute() == {}
    document = operator.document(
        f"the reboot of {subfolder or data}",
        lambda document: is_it(document.get("reboot", {})) and document["reboot"]["state"] == "completed",
    )
    answer = document["commands"][document["reboot"]["commandId"]]
    assert (answer["method"], answer["status"], answer["payload"]["simulated"]) == ("rebootDevice", 200, True), answer
    assert document["reboot"]["reason"] == "a test", document["reboot"]
    rebooted_at = datetime.datetime.fromisoformat(document["rebootTime"].replace("Z", "+00:00"))
    assert before < rebooted_at <= datetime.datetime.now(datetime.timezone.utc), document["rebootTime"]


def story(operator, agent):
    operator.register(agent.new_key())
    operator.list()
    operator.patch()

    refused(operator.command("rebootDevice/early"), 400, "FAILED_PRECONDITION")
    first, second = '{"color": "blue"}', '{"color": "red"}'
    assert operator.configure(first, 1).execute()["version"] == "2"
    refused(operator.configure(second, 1), 400, "FAILED_PRECONDITION")
    with agent.running():
        operator.takes_commands()
        configured(operator, first)
        assert operator.configure(second, 2).execute()["version"] == "3"
        configured(operator, second)

        reason = {"reason": "a test"}
        rebooted(operator, "rebootDevice/id-1", json.dumps(reason), lambda reboot: reboot.get("commandId") == "id-1")
        # The agent makes an id of its own.
        rebooted(
            operator, "rebootDevice", json.dumps(reason), lambda reboot: reboot.get("commandId", "").startswith("x")
        )
        envelope = {"method": "rebootDevice", "id": "id-2", "payload": reason}
        rebooted(operator, "", json.dumps(envelope), lambda reboot: reboot.get("commandId") == "id-2")

        operator.takes_commands()
        operator.command("noSuchMethod/id-3").execute()
        operator.document(
            "the answer 404", lambda document: document["commands"].get("id-3", {}).get("status") == 404
        )
    assert "lastErrorStatus" not in operator.device(), operator.device()
    operator.refuses_commands()
    refused(operator.command("rebootDevice/late"), 400, "FAILED_PRECONDITION")

    for name in ["gw-1", "sensor-1", "sensor-2"]:
        operator.devices.delete(name=f"{REGISTRY}/devices/{name}").execute()
    operator.registries.delete(name=REGISTRY).execute()
    refused(operator.registries.get(name=REGISTRY), 404, "NOT_FOUND")


def service(endpoint, http):
    """The client of `cloudiot` v1, by the description of the API that the library carries."""
    return build("cloudiot", "v1", http=http, client_options={"api_endpoint": endpoint}, static_discovery=True)


def too_long(*_):
    raise TimeoutError(f"not done within {LONGEST} s")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--endpoint", required=True, help="where REST is served")
    arguments.add_argument("--ca", help="the certificate of the authority, for https")
    arguments.add_argument("--token", required=True, help="the bearer token that calls must carry")
    arguments.add_argument("--cloud", required=True, help="lines of the agent's section cloud.iotcore")
    arguments.add_argument("--agent", required=True, help="the program twinagent")
    arguments.add_argument("--folder", required=True, type=pathlib.Path, help="an empty folder")
    given = arguments.parse_args()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)

    # Whom the cloud does not know, and who does not know the cloud.
    anybody = service(given.endpoint, httplib2.Http(ca_certs=given.ca))
    refused(anybody.projects().locations().registries().list(parent=PARENT), 401, "UNAUTHENTICATED")
    if given.ca:
        try:
            Operator(service(given.endpoint, httplib2.Http())).device()
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError("a certificate of an unknown authority was taken")

    credentials = google.oauth2.credentials.Credentials(given.token)
    http = google_auth_httplib2.AuthorizedHttp(credentials, http=httplib2.Http(ca_certs=given.ca))
    agent = Agent(given.agent, given.folder, configuration(given.cloud))
    story(Operator(service(given.endpoint, http)), agent)


if __name__ == "__main__":
    main()
