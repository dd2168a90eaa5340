"""Calls the functions of gradio_app.py with Gradio's own client; prints what comes back. Argument: the base URL."""

import json
import sys

import loopback  # noqa: F401  # names below localhost lead to 127.0.0.1
from gradio_client import Client

client = Client(sys.argv[1], verbose=False)
counted = list(client.submit(3, api_name="/count"))
sys.stdout.write(json.dumps({"sum": client.predict(40, 2, api_name="/add"), "counted": counted}))
