"""A lamp that speaks Wiz, on loopback: prints each request that changes it, as a line of JSON."""

from __future__ import annotations

import json
import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 38899))
    state = {"mac": "a8bb50000001", "rssi": -60, "state": False, "sceneId": 0, "temp": 2700, "dimming": 100}
    while True:
        data, sender = server.recvfrom(2048)
        asked = json.loads(data)
        answer = {"method": asked["method"], "env": "pro"}
        if asked["method"] == "getPilot":
            answer["result"] = state
        elif asked["method"] == "setPilot" and asked["params"].get("dimming", 100) >= 10:
            state.update(asked["params"])
            answer["result"] = {"success": True}
            print(json.dumps(asked["params"]), flush=True)
        else:
            answer["error"] = {"code": -32602, "message": "Invalid params"}
        server.sendto(json.dumps(answer).encode(), sender)
