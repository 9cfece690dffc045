"""What the demo's Envoy protects: the page, and an API that answers with what reached it."""

import http.server
import json
import os
import signal
import sys

PAGE = os.environ["PAGE"]
PORT = int(os.environ["PORT"])

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/app.css": ("app.css", "text/css; charset=utf-8"),
    "/assets/app.js": ("app.js", "text/javascript; charset=utf-8"),
}


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path in FILES:
            name, kind = FILES[path]
            with open(os.path.join(PAGE, name), "rb") as file:
                self.send(200, kind, file.read())
        elif path.endswith("/echo"):
            headers = {}
            for name, value in self.headers.items():
                headers.setdefault(name.lower(), []).append(value)
            echo = {"method": self.command, "path": self.path, "headers": headers}
            self.send(200, "application/json", json.dumps(echo).encode())
        else:
            self.send(404, "application/json", b'{"error":"not_found"}')

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Envoy's access log says it all, and says it without queries."""


# Without this, the first process of a container does not hear the signal that asks for its end.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", PORT), Upstream).serve_forever()
