"""A redis-server of a test's own, from DGL_REDIS_SERVER or PATH."""

import os
import shutil
import signal
import subprocess
import time

from kafka.broker import free_ports

SERVER = os.environ.get("DGL_REDIS_SERVER") or shutil.which("redis-server")


class Server:
    """A redis-server in a process of its own."""

    def __init__(self, folder, *options):
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder, self.options = folder, options
        self.start()

    def start(self):
        """Start it and wait until it answers."""
        command = [SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self.folder), "--enable-debug-command", "local", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if self.client().ping():
                    return
            except Exception:  # noqa: BLE001 - not up yet
                time.sleep(0.02)
        raise RuntimeError(f"redis-server did not come up on port {self.port}")

    def client(self):
        """A client of it."""
        import redis

        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=5)

    def stop(self):
        """SIGKILL."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)
