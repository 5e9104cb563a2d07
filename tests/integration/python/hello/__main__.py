"""A WebSocket's handshake and a message, by a wheel that needs one of Debian's packages."""

import json
import platform

import wsproto
from wsproto.events import AcceptConnection, Request, TextMessage

client, server = (wsproto.WSConnection(kind) for kind in (wsproto.ConnectionType.CLIENT, wsproto.ConnectionType.SERVER))
server.receive_data(client.send(Request(host="here", target="/")))
asked = [event.target for event in server.events()]
client.receive_data(server.send(AcceptConnection()) + server.send(TextMessage(data="hello")))
said = [event.data for event in client.events() if isinstance(event, TextMessage)]
print(json.dumps({"machine": platform.machine(), "asked": asked, "said": said, "file": wsproto.__file__}))
