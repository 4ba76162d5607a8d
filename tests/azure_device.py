"""Azure's own device client, unmodified, as the device of the tutorial against the stand-in hub.

Run by tests/azure_device.rs, which starts the stand-in, sends the cloud-to-device messages and reads the telemetry. The
device's handler does what that of the tutorial does; the back end is the one that commands our own agent, too. Ends with
0 if all was as it should be; an error says what was not.
"""

import argparse
import asyncio
import contextlib
import datetime
import pathlib
import queue
import signal
import threading
import time

from azure.iot.device import (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    ProvisioningDeviceClient,
    ProxyOptions,
    X509,
    exceptions,
)

from agent import PATIENCE, wait
from azure_service import TUTORIAL, Operator, certificate, refused, the_tutorial, too_long

DEVICE = "tutorial-1"
# Seconds that the device takes for a method which nobody waits for so long; the hub's shortest time-out is 5 s.
TOO_SLOW = 7
# Seconds of life of a token that is renewed every other second: the client renews it two minutes before its end.
SHORT = 122
# Seconds for all of it.
LONGEST = 200


class Device:
    """What the tutorial writes for a device, around the client library."""

    def __init__(self, client):
        self.client = client
        self.messages = queue.SimpleQueue()
        self.patches = queue.SimpleQueue()
        client.on_method_request_received = self.method_called
        client.on_message_received = self.messages.put
        client.on_twin_desired_properties_patch_received = self.patches.put

    def method_called(self, request):
        if request.name == "rebootDevice":
            assert request.payload == TUTORIAL, request.payload
            self.client.patch_twin_reported_properties({"rebootTime": str(datetime.datetime.now())})
            status, payload = 200, {"Response": "This is the response from the device"}
        elif request.name == "echo":
            status, payload = 200, request.payload
        elif request.name == "slow":
            time.sleep(TOO_SLOW)
            status, payload = 200, None
        else:
            status, payload = 404, {"Response": "Unknown method"}
        self.client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))


@contextlib.contextmanager
def online(client):
    """Connects the client; it is shut down in the end."""
    try:
        client.connect()
        yield client
    finally:
        client.shutdown()


def device_client(given, key, **options):
    connection = f"HostName={given.address};DeviceId={DEVICE};SharedAccessKey={key}"
    return IoTHubDeviceClient.create_from_connection_string(
        connection, server_verification_cert=given.ca.read_text(), **options
    )


def methods(operator):
    """The tutorial's own story, and what else can become of a direct method."""
    operator.until_it_takes_methods(DEVICE)
    answer, _ = the_tutorial(operator, DEVICE)
    assert (answer.status, answer.payload) == (200, {"Response": "This is the response from the device"}), answer
    unknown = operator.invoke(DEVICE, "lockDoor")
    assert (unknown.status, unknown.payload) == (404, {"Response": "Unknown method"}), unknown
    for payload in ["", "text", 4.5, [], {"nested": [None, True]}]:
        echoed = operator.invoke(DEVICE, "echo", payload)
        assert (echoed.status, echoed.payload) == (200, payload), (payload, echoed)
    refused(lambda: operator.invoke(DEVICE, "slow", seconds=5), 504, 504101)
    # Its late answer does no harm.
    time.sleep(TOO_SLOW - 5)
    operator.until_it_takes_methods(DEVICE)


def twins(operator, device):
    """Both halves of the twin, seen from both sides."""
    twin = device.client.get_twin()
    assert twin["desired"]["$version"] >= 1 and "$metadata" not in twin["desired"], twin
    version = operator.desire(DEVICE, {"color": "blue"}).properties.desired["$version"]
    patch = device.patches.get(timeout=PATIENCE)
    assert patch == {"color": "blue", "$version": version}, patch
    operator.desire(DEVICE, {"color": None, "deep": {"a": [1, {"b": 2}]}})
    patch = device.patches.get(timeout=PATIENCE)
    assert patch == {"color": None, "deep": {"a": [1, {"b": 2}]}, "$version": version + 1}, patch
    twin = device.client.get_twin()
    assert twin["desired"] == {"deep": {"a": [1, {"b": 2}]}, "$version": version + 1}, twin

    before = twin["reported"]["$version"]
    device.client.patch_twin_reported_properties({"gone": 1, "kept": {"deep": True}})
    device.client.patch_twin_reported_properties({"gone": None})
    reported = operator.reported(DEVICE)
    assert "gone" not in reported and reported["kept"] == {"deep": True}, reported
    assert reported["$version"] == before + 2 and reported["$metadata"]["kept"]["$lastUpdated"], reported
    try:
        device.client.patch_twin_reported_properties({"dotted.name": 1})
    except exceptions.ClientError as error:
        assert "status 400" in str(error.__cause__), error.__cause__
    else:
        raise AssertionError("a name with a dot was taken into the twin")


def messages(device):
    """One message each way; the other ends are in tests/azure_device.rs."""
    telemetry = Message('{"temperature": 21.5}', "m-1", "utf-8", "application/json")
    telemetry.custom_properties["a b"] = "c/d&é"
    device.client.send_message(telemetry)
    device.client.send_message("plain")
    for number in range(2):
        received = device.messages.get(timeout=PATIENCE)
        assert received.data == f"message {number}".encode(), received.data
        assert received.custom_properties == {"k e": "v/1=&", "number": str(number)}, received.custom_properties
        assert received.message_id == f"c2d-{number}", received.message_id


def renewals(operator, given, key):
    """Tokens that soon expire: new logins, and the subscriptions stay. The client never subscribes again."""
    with online(device_client(given, key, sastoken_ttl=SHORT)) as client:
        device = Device(client)
        # Without it the client would not hear what it asks for after each renewal: what has changed meanwhile.
        client.get_twin()
        until = time.monotonic() + 8
        while time.monotonic() < until:
            operator.until_it_takes_methods(DEVICE)
            time.sleep(0.5)
        version = operator.desire(DEVICE, {"renewed": True}).properties.desired["$version"]
        wait(
            "the patch after renewals",
            lambda: True if device.patches.get(timeout=PATIENCE)["$version"] == version else None,
        )


def proxy(port):
    """An HTTP proxy that leads to this port of loopback, whatever it is asked for; its own port."""

    async def pipe(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader, writer):
        asked = await reader.readuntil(b"\r\n\r\n")
        assert asked.startswith(b"CONNECT ") and b":443 " in asked, asked
        there, here = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, here), pipe(there, writer), return_exceptions=True)

    ports = queue.SimpleQueue()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    return ports.get(timeout=PATIENCE)


def web_sockets(operator, given, key):
    """The same within HTTPS. The client knows port 443 only; a proxy leads from there to where the hub is."""
    through = ProxyOptions("HTTP", "127.0.0.1", proxy(given.https_port))
    connection = f"HostName=localhost;DeviceId={DEVICE};SharedAccessKey={key}"
    client = IoTHubDeviceClient.create_from_connection_string(
        connection, server_verification_cert=given.ca.read_text(), websockets=True, proxy_options=through
    )
    with online(client):
        device = Device(client)
        operator.until_it_takes_methods(DEVICE)
        the_tutorial(operator, DEVICE)
        # More than fits into one read.
        long = {"long": ["0123456789" * 100] * 30}
        client.patch_twin_reported_properties(long)
        assert device.client.get_twin()["reported"]["long"] == long["long"]
        client.patch_twin_reported_properties({"long": None})


def certificates(operator, given):
    """A certificate in the place of a key, known to the hub by its thumbprint."""
    chain, key, sha1, sha256 = certificate(given.folder, "x509-1")
    other, other_key, *_ = certificate(given.folder, "x509-2")
    operator.registry.create_device_with_x509("x509-1", sha1, sha256, "enabled")

    def client(chain, key):
        return IoTHubDeviceClient.create_from_x509_certificate(
            X509(str(chain), str(key)), given.address, "x509-1", server_verification_cert=given.ca.read_text()
        )

    with online(client(chain, key)) as device:
        device.patch_twin_reported_properties({"proof": "certificate"})
    assert operator.reported("x509-1")["proof"] == "certificate"
    refused_login(client(other, other_key))


def refused_login(client):
    try:
        with online(client):
            raise AssertionError("a stranger was let in")
    except exceptions.CredentialError:
        pass


def modules(operator, given):
    """A module of the device is a client of its own, beside its device."""
    module = operator.registry.create_module_with_sas(DEVICE, "app", "a test", "", "")
    key = module.authentication.symmetric_key.primary_key
    connection = f"HostName={given.address};DeviceId={DEVICE};ModuleId=app;SharedAccessKey={key}"
    client = IoTHubModuleClient.create_from_connection_string(
        connection, server_verification_cert=given.ca.read_text(), product_info="dtmi:com:example;1"
    )
    with online(client):
        client.patch_twin_reported_properties({"from": "a module"})
        client.send_message("of a module")
    assert operator.registry.get_module_twin(DEVICE, "app").properties.reported["from"] == "a module"
    assert "from" not in operator.reported(DEVICE)


def provisioning(operator, given):
    """The provisioning client asks where it belongs, and the hub that it is told knows it."""
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        given.address,
        "registered-1",
        given.id_scope,
        given.enrollment_key,
        server_verification_cert=given.ca.read_text(),
    )
    client.provisioning_payload = {"model": "any"}
    result = client.register()
    assert result.status == "assigned", result
    state = result.registration_state
    assert (state.assigned_hub, state.device_id) == (given.address, "assigned-1"), state
    connection = f"HostName={given.address};DeviceId=assigned-1;SharedAccessKey={given.enrollment_key}"
    with online(
        IoTHubDeviceClient.create_from_connection_string(connection, server_verification_cert=given.ca.read_text())
    ) as device:
        device.patch_twin_reported_properties({"provisioned": True})
    assert operator.reported("assigned-1")["provisioned"] is True


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hub", required=True, help="the connection string of the hub's owner")
    arguments.add_argument("--address", required=True, help="where MQTT is served over TLS, on port 8883")
    arguments.add_argument("--https-port", required=True, help="where the hub is on localhost, REST and WebSockets")
    arguments.add_argument("--id-scope", required=True, help="of the provisioning service")
    arguments.add_argument("--enrollment-key", required=True, help="the key of the enrollment registered-1")
    arguments.add_argument("--ca", required=True, type=pathlib.Path, help="the certificate of the authority")
    arguments.add_argument("--agent", help="not used: the device is another one here")
    arguments.add_argument("--folder", required=True, type=pathlib.Path, help="an empty folder")
    given = arguments.parse_args()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)

    operator = Operator(given.hub)
    key = operator.create(DEVICE)
    refused_login(device_client(given, "d3Jvbmc="))
    with online(device_client(given, key)) as client:
        device = Device(client)
        twins(operator, device)
        methods(operator)
        messages(device)
    refused(lambda: operator.invoke(DEVICE, "echo"), 404, 404103)
    renewals(operator, given, key)
    web_sockets(operator, given, key)
    certificates(operator, given)
    modules(operator, given)
    provisioning(operator, given)


if __name__ == "__main__":
    main()
