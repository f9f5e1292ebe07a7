"""`rag serve` itself: its processes, its certificate, its end."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import requests
import trustme

from tests.support.rag import Rag, serving
from tests.support.service import awaited


def served_certificate(url: str, authority: Path) -> str:
    """Return the certificate that a new connection gets. Raises an error if the authority did not sign it."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            found = secure.getpeercert(binary_form=True)
            assert found is not None
            return ssl.DER_cert_to_PEM_cert(found)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the live workers of `rag serve`."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):
            if "rag_assets.serving.worker" in child.cmdline():
                found.append(child)
    return found


def issue(authority: trustme.CA, folder: Path) -> str:
    """Write a new certificate and its key. Returns the certificate."""
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return (folder / "cert.pem").read_text()


def test_workers_share_a_port_renew_their_certificate_and_come_back(
    rag: Rag, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    first = issue(authority, tmp_path)
    tls = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with serving(rag, "--workers", "2", *tls, log=tmp_path / "log") as (process, url):
        trusted = str(tmp_path / "ca.pem")
        assert served_certificate(url, tmp_path / "ca.pem") == first
        answer = requests.get(f"{url}/livez", verify=trusted, timeout=10)
        assert answer.json() == {"status": "alive"}
        assert "max-age" in answer.headers["strict-transport-security"]
        # A key that does not fit changes nothing.
        second = issue(authority, tmp_path)
        right = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(trustme.CA().issue_cert("a").private_key_pem.bytes())
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert served_certificate(url, tmp_path / "ca.pem") == first
        (tmp_path / "key.pem").write_bytes(right)
        process.send_signal(signal.SIGHUP)
        awaited(
            lambda: {served_certificate(url, tmp_path / "ca.pem") for _ in range(8)} == {second}
        )
        killed = workers(process)
        assert len(killed) == 2
        killed[0].kill()
        awaited(lambda: len(workers(process)) == 2 and killed[0] not in workers(process))
        for _ in range(5):
            assert requests.get(f"{url}/livez", verify=trusted, timeout=30).status_code == 200
        both = workers(process)
        # Without its parent no worker stays, and the port is free.
        process.kill()
        _, still_alive = psutil.wait_procs(both, timeout=60)
        assert still_alive == []


def test_the_end_of_the_service_waits_for_requests(rag: Rag, tmp_path: Path) -> None:
    with serving(rag, log=tmp_path / "log") as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            body = b'{"query": "hours"}'
            slow.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
            )
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            slow.sendall(body)
            # A stranger's search: what counts is that it is answered.
            assert slow.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert process.wait(20) == 0


def test_an_address_for_everybody_needs_tls_or_a_proxy(rag: Rag) -> None:
    refused = rag("serve", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--tls-cert" in refused.stderr
    assert "--behind-proxy" in refused.stderr
    absent = rag("serve", "--tls-cert", "/nowhere.pem")
    assert absent.returncode == 2
    assert "No such file" in absent.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = rag("serve", "--port", str(port))
    assert busy.returncode == 2
    assert f"Port {port}" in busy.stderr
