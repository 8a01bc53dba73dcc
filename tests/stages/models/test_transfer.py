"""Downloads against a local server that answers with the hubs' headers: whole and unchanged, or nothing."""

import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest

from stages.models import transfer
from stages.models.transfer import download
from videolift.errors import BackendUnavailable

BODY = bytes(range(256)) * 400
OTHER = BODY[::-1]
PAGE = b"<!doctype html><title>Welcome to the airport</title>"


class Hub(http.server.ThreadingHTTPServer):
    """A hub that redirects ``/hub`` to ``/store`` as Hugging Face does, and a store that knows ranges as its CDN does.

    Attributes:
        body: what the store has now.
        cut: bytes of the body that are sent before the connection is closed.
        states_hash, states_length: what the two say.
        etag: of the store, by content; constant, as no server should; or empty for none.
        answer: instead of the store's: page, 206 from 0, chunks.
        elsewhere: where the hub redirects to instead.
        asked: paths and Range headers, in order.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.body, self.cut, self.states_hash, self.states_length = BODY, None, True, True
        self.etag, self.answer, self.elsewhere = "by content", "", ""
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/hub"


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub, wanted = self.server, self.headers.get("Range")
        hub.asked.append((self.path, wanted))
        self.close_connection = True
        if self.path == "/hub":
            return self._redirect(hub)
        if hub.answer == "page":
            return self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        etag = f'"{hashlib.md5(hub.body).hexdigest()}"' if hub.etag == "by content" else '"constant"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes"} if hub.etag else {}
        start = int(wanted.split("=")[1].rstrip("-")) if wanted else 0
        if start and self.headers.get("If-Range") != etag:
            start = 0
        if start >= len(hub.body):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(hub.body)}"})
        if hub.answer == "chunks":
            return self._chunks(hub.body)
        if start or hub.answer == "206 from 0":
            start = 0 if hub.answer == "206 from 0" else start
            headers["Content-Range"] = f"bytes {start}-{len(hub.body) - 1}/{len(hub.body)}"
            return self._send(206, hub.body[start:], headers)
        return self._send(200, hub.body, headers)

    def _redirect(self, hub):
        headers = {"Location": hub.elsewhere or f"http://127.0.0.1:{hub.server_port}/store"}
        if hub.states_hash:
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(hub.body).hexdigest()}"', "X-Linked-Size": str(len(hub.body))}
        self._send(302, b"", headers)

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.states_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if status == 302 else body[: self.server.cut])

    def _chunks(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for k in range(0, len(body), 10_000):
            part = body[k : k + 10_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if self.server.cut is not None and k + 10_000 > self.server.cut:
                self.wfile.write(b"2710\r\nhalf a chunk")
                return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(transfer, "SCHEMES", ("http",))
    running = Hub()
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def final(tmp_path):
    return tmp_path / "toy.bin"


def left(final: Path) -> list[str]:
    return sorted(path.name for path in final.parent.iterdir())


def cut_off(hub, final, *, at=1000):
    """A first call whose connection breaks."""
    hub.cut = at
    with pytest.raises(BackendUnavailable, match="continues the download"):
        download(hub.url, final)
    hub.cut = None
    assert not final.exists()


def test_a_download_returns_the_hash_that_the_hub_states(hub, final):
    assert download(hub.url, final) == hashlib.sha256(BODY).hexdigest()
    assert final.read_bytes() == BODY
    assert left(final) == ["toy.bin"]


def test_where_no_hash_is_stated_nobody_vouches_for_it(hub, final):
    hub.states_hash = False
    assert download(hub.url, final) is None
    assert final.read_bytes() == BODY


def test_a_download_appears_only_when_complete_and_goes_on_where_it_stopped(hub, final):
    cut_off(hub, final)
    assert final.with_name("toy.bin.part").stat().st_size == 1000
    cut_off(hub, final)
    download(hub.url, final)
    assert final.read_bytes() == BODY
    assert [wanted for path, wanted in hub.asked if path == "/store"] == [None, "bytes=1000-", "bytes=2000-"]


@pytest.mark.parametrize("states_hash", [True, False])
def test_a_file_that_changed_in_between_is_fetched_anew_and_never_mixed(hub, final, states_hash):
    hub.states_hash = states_hash
    cut_off(hub, final)
    hub.body = OTHER
    download(hub.url, final)
    assert final.read_bytes() == OTHER


def test_a_store_that_keeps_its_etag_for_another_file_is_found_out_by_the_hubs_hash(hub, final):
    hub.etag = "constant"
    cut_off(hub, final)
    hub.body = OTHER
    download(hub.url, final)
    assert final.read_bytes() == OTHER


def test_what_lies_there_of_an_unknown_version_is_not_continued(hub, final):
    final.with_name("toy.bin.part").write_bytes(OTHER[:1000])
    download(hub.url, final)
    assert final.read_bytes() == BODY
    hub.etag = ""
    final.unlink()
    cut_off(hub, final)
    download(hub.url, final)
    assert [wanted for path, wanted in hub.asked if path == "/store"] == [None, None, None]


def test_a_part_longer_than_the_file_is_not_complete(hub, final):
    cut_off(hub, final)
    final.with_name("toy.bin.part").write_bytes(BODY + b"more")
    download(hub.url, final)
    assert final.read_bytes() == BODY


def test_a_part_that_is_whole_is_taken_and_still_compared_with_the_hash(hub, final):
    cut_off(hub, final)
    final.with_name("toy.bin.part").write_bytes(BODY)
    download(hub.url, final)
    assert final.read_bytes() == BODY
    final.unlink()
    cut_off(hub, final)
    final.with_name("toy.bin.part").write_bytes(OTHER)
    with pytest.raises(BackendUnavailable, match="stated by the hub"):
        download(hub.url, final)
    assert left(final) == []


def test_a_range_that_begins_elsewhere_is_not_appended(hub, final):
    cut_off(hub, final)
    hub.answer = "206 from 0"
    download(hub.url, final)
    assert final.read_bytes() == BODY


def test_a_captive_portals_page_is_not_taken_for_the_file(hub, final):
    hub.states_hash, hub.answer = False, "page"
    with pytest.raises(BackendUnavailable, match="asking for a login"):
        download(hub.url, final)
    assert left(final) == []


def test_a_truncated_chunk_is_a_download_that_was_cut_off(hub, final):
    hub.answer, hub.cut, hub.states_hash = "chunks", 20_000, False
    with pytest.raises(BackendUnavailable, match="cut off after .* continues"):
        download(hub.url, final)
    hub.cut = None
    download(hub.url, final)
    assert final.read_bytes() == BODY


def test_an_answer_whose_end_cannot_be_told_from_a_broken_connection_is_refused(hub, final):
    hub.states_length, hub.states_hash = False, False
    with pytest.raises(BackendUnavailable, match="how long the file is"):
        download(hub.url, final)


def test_a_redirect_to_another_scheme_is_not_even_contacted(hub, final):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.setblocking(False)
        hub.elsewhere = f"https://127.0.0.1:{plain.getsockname()[1]}/store"  # what https is to plain http, http is to this here
        with pytest.raises(BackendUnavailable, match="only http addresses"):
            download(hub.url, final)
        with pytest.raises(BlockingIOError):
            plain.accept()


def test_bytes_that_are_not_those_expected_are_thrown_away(hub, final):
    for wanted in ({"sha256": "0" * 64}, {"expected_bytes": 5}):
        with pytest.raises(BackendUnavailable, match="nothing was kept"):
            download(hub.url, final, **wanted)
        assert left(final) == []


def test_a_server_that_is_not_there_is_one_sentence(final, monkeypatch):
    monkeypatch.setattr(transfer, "SCHEMES", ("http",))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BackendUnavailable, match="refused"):
        download(f"http://127.0.0.1:{port}/x", final)
