"""One file over https to its place, whole or not at all; what the server said of it is compared with what arrived.

A download that was cut off goes on where it stopped only if the server says that the file is still the one of which the first part
came (``If-Range``); else it begins anew. What a weight is for, and what its hash was before, is for `stages.models.weights`.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO

from videolift.errors import BackendUnavailable, storage_errors_are_transient
from videolift.store import publish, read_json, sha256_file, write_json

SCHEMES = ("https",)
_CHUNK = 1 << 20
_TIMEOUT_S = 60.0
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_CONTINUES = "The same command continues the download."


@dataclass(frozen=True)
class Download:
    """What a server states of a file.

    Attributes:
        total_bytes: of the whole file, None where it is not stated.
        sha256: as the hub states it, hex; None where it states none.
        validator: names this version of the file for ``If-Range``; None where the server gives none, then nothing is resumed.
    """

    total_bytes: int | None = None
    sha256: str | None = None
    validator: str | None = None

    @classmethod
    def stated_by(cls, response: http.client.HTTPResponse, hub: Message, url: str) -> Download:
        """What the response to ``url`` and the hub that redirected to it say.

        Raises:
            BackendUnavailable: it is a web page, encoded, or its end could not be told from a broken connection.
        """
        headers = response.headers
        if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise BackendUnavailable(
                f"{url}: a web page came instead of the file. Is this network asking for a login? Open the address in a browser"
            )
        if headers.get("Content-Encoding", "identity") != "identity":
            raise BackendUnavailable(f"{url}: the server sends it encoded ({headers['Content-Encoding']}), which was not asked for")
        span = _RANGE.fullmatch(headers.get("Content-Range") or "")
        length = headers.get("Content-Length")
        total = int(span[2]) if span else int(length) if length and length.isdigit() else None
        linked_bytes, linked_hash = hub.get("X-Linked-Size", ""), hub.get("X-Linked-Etag", "").strip('"').lower()
        # The hub's own word goes before that of the storage it redirects to.
        if linked_bytes.isdigit():
            total = int(linked_bytes)
        if total is None and not response.chunked:
            raise BackendUnavailable(
                f"{url}: the server does not say how long the file is, so nobody could tell whether it is whole"
            )
        # A weak tag (W/"...") allows other bytes, so nothing may be joined on its word.
        etag = headers.get("ETag", "")
        validator = etag if etag.startswith('"') else headers.get("Last-Modified")
        return cls(total, linked_hash if re.fullmatch("[0-9a-f]{64}", linked_hash) else None, validator)


def require_secure(url: str) -> str:
    """``url``, if it is one that is fetched.

    Raises:
        BackendUnavailable: another scheme than https.
    """
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise BackendUnavailable(f"{url}: only {', '.join(SCHEMES)} addresses are fetched")
    return url


def download(url: str, final: Path, *, expected_bytes: int | None = None, sha256: str | None = None) -> str | None:
    """Downloads ``url`` to ``final`` by way of ``{final}.part``, which a later call continues.

    Args:
        expected_bytes, sha256: as the manifest or the lock has them; what the hub states is checked besides.

    Returns:
        The SHA-256 that the hub states, hex; None where it states none, then the file is what arrived and no one vouches for it.

    Raises:
        BackendUnavailable: no https, no answer, a web page, cut off, or not the size or hash expected.
        Transient: disk full.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(final)
    # The second call begins anew where the first found that the part on the disk is of another file.
    stated = _receive(url, part) or _receive(url, part)
    if stated is None:
        raise BackendUnavailable(f"{url}: the server does not send the range it was asked for. Try again, or fetch it by hand")
    size = part.size()
    # Size before hash: a cut-off file is resumed, a wrong one thrown away.
    for wanted in (expected_bytes, stated.total_bytes):
        if wanted is not None and size < wanted:
            raise BackendUnavailable(f"{url}: cut off after {size} of {wanted} bytes. {_CONTINUES}")
        if wanted is not None and size > wanted:
            part.discard()
            raise BackendUnavailable(f"{url}: {size} bytes arrived, {wanted} were expected; nothing was kept")
    for digest, by in ((sha256, "expected"), (stated.sha256, "stated by the hub")):
        if digest is not None and sha256_file(part.path) != digest:
            part.discard()
            raise BackendUnavailable(f"{url}: not the sha256 {digest} {by}; nothing was kept. Report it if it happens again.")
    # Only now under its name: whoever sees it may load it.
    publish(part.path, final)
    part.note.unlink(missing_ok=True)
    return stated.sha256


class _Part:
    """What has arrived of a file, and of which version of it."""

    def __init__(self, final: Path) -> None:
        self.path, self.note = final.with_name(final.name + ".part"), final.with_name(final.name + ".part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def resumable(self, url: str) -> tuple[int, Download]:
        """Bytes there and their version; 0 where it is not known which version they are of."""
        # Without its note a part may be of any version, and joining two versions gives a file of neither.
        noted = read_json(self.note)
        if not isinstance(noted, dict) or noted.get("url") != url or not isinstance(noted.get("validator"), str):
            return 0, Download()
        return self.size(), Download(noted.get("total_bytes"), noted.get("sha256"), noted["validator"])

    def begin(self, url: str, stated: Download) -> None:
        """Notes the version before its first byte is written."""
        self.discard()
        write_json(self.note, {"url": url, **vars(stated)})

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _receive(url: str, part: _Part) -> Download | None:
    """Adds what is missing to ``part``; None where what was there had to be thrown away and the caller begins anew."""
    have, version = part.resumable(url)
    # Not compressed on the way, or sizes and ranges would be those of the compressed bytes.
    headers = {"User-Agent": "videolift", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.validator or ""}
    redirects = _Redirects(url)
    try:
        response = urllib.request.build_opener(redirects).open(
            urllib.request.Request(require_secure(url), headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        # Nothing is left to send: the last attempt ended after the last byte and before the rename.
        if error.code == 416 and have:
            whole = _RANGE.fullmatch(error.headers.get("Content-Range") or "")
            if whole is not None and int(whole[2]) == have:
                return version
            part.discard()
            return None
        raise BackendUnavailable(f"{url}: {error}. Try the same command again") from error
    except (OSError, http.client.HTTPException) as error:
        raise BackendUnavailable(f"{url}: {error}. {_CONTINUES}") from error
    with response:
        stated = Download.stated_by(response, redirects.headers, url)
        if response.status == 206 and have:
            span = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
            # A hub may answer a range with another file although it was asked not to.
            other_file = stated.sha256 != version.sha256 or (version.total_bytes or stated.total_bytes) != stated.total_bytes
            if span is None or span[1] is None or int(span[1]) != have or other_file:
                part.discard()
                return None
        else:
            part.begin(url, stated)
        with storage_errors_are_transient(f"downloading {part.path.name}"), part.path.open("ab") as file:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise BackendUnavailable(f"{url}: cut off after {file.tell()} bytes ({error}). {_CONTINUES}") from error
                if not chunk:
                    break
                file.write(chunk)
    return stated


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone; keeps what the hub, the host that was asked first, says of the file."""

    def __init__(self, url: str) -> None:
        self._host = urllib.parse.urlsplit(url).netloc
        self.headers = Message()

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        require_secure(newurl)
        # Only the host that was asked vouches; one that it redirects to could state any hash.
        if urllib.parse.urlsplit(req.full_url).netloc == self._host and "X-Linked-Etag" in headers:
            self.headers = headers
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
