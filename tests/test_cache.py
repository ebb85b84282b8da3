"""Fetching, against a server on this machine that does what real ones do."""

import hashlib
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from ibnseg import weights
from ibnseg.weights import cache

BODY = bytes(range(256)) * 4000
HASH = hashlib.sha256(BODY).hexdigest()
NAME = f'net-{HASH[:8]}.pth'


class Server(ThreadingHTTPServer):
    """Serves `body` at every address, in the way that `manner` says.

    'whole': as a good server; 'unsized': no Content-Length; 'breaks': the answer ends after a third
    of what it announced; 404, 500: that error.
    """

    daemon_threads = True
    body = BODY
    manner: str | int = 'whole'

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.requests = 0

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the game."""

    def url(self, name: str = NAME) -> str:
        return f'http://127.0.0.1:{self.server_port}/v1.0/{name}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        if isinstance(server.manner, int):
            self.send_error(server.manner)
            return
        self.send_response(200)
        if server.manner != 'unsized':
            self.send_header('Content-Length', str(len(server.body)))
        self.end_headers()
        sent = len(server.body) // 3 if server.manner == 'breaks' else None
        self.wfile.write(server.body[:sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01)).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """torch's download cache, empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setenv('no_proxy', '*')
    return tmp_path / 'hub' / 'checkpoints'


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize('name', [NAME, 'no-hash.pth'])
@pytest.mark.parametrize('manner', ['whole', 'unsized'])
def test_a_file_is_fetched_once_and_quietly(server, folder, manner, name, monkeypatch, capfd):
    said = []
    monkeypatch.setattr(cache._stack, 'log', said.append)
    server.manner = manner
    for _ in range(2):
        path = cache.fetch(server.url(name))
        assert path == folder / name and path.read_bytes() == BODY
    assert names(folder) == [name] and server.requests == 1
    assert path.stat().st_mode & 0o777 == 0o644
    assert said == [f'fetching {server.url(name)} to {path}']
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('name', [NAME, 'no-hash.pth'])
def test_a_broken_download_leaves_nothing_and_is_begun_again(server, folder, name):
    server.manner = 'breaks'
    with pytest.raises(FileNotFoundError, match='could not be fetched') as caught:
        cache.fetch(server.url(name))
    assert str(folder / name) in str(caught.value)
    assert names(folder) == []
    server.manner = 'whole'
    assert cache.fetch(server.url(name)).read_bytes() == BODY


def test_wrong_bytes_are_thrown_away(server, folder):
    server.body = b'<html>log in</html>' * 50000
    found = hashlib.sha256(server.body).hexdigest()[:8]
    with pytest.raises(ValueError, match=f'begins with {found}, expected {HASH[:8]}.*proxy'):
        cache.fetch(server.url())
    assert names(folder) == []


@pytest.mark.parametrize('code', [404, 500])
def test_an_error_of_the_server(server, folder, code):
    server.manner = code
    with pytest.raises(FileNotFoundError, match=f'fetched .{code} ') as caught:
        cache.fetch(server.url())
    for part in (server.url(), str(folder / NAME), 'lay the file', 'init_cfg=None'):
        assert part in str(caught.value)
    assert names(folder) == [] and server.requests == 1


def test_nobody_there(server, folder):
    server.server_close()
    with pytest.raises(FileNotFoundError, match='could not be fetched'):
        cache.fetch(server.url())
    assert names(folder) == []


def test_only_a_download_needs_pooch(server, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pooch', None)
    with pytest.raises(FileNotFoundError, match='pip install pooch') as caught:
        cache.fetch(server.url())
    assert str(folder / NAME) in str(caught.value)
    (folder / NAME).write_bytes(BODY)
    assert cache.fetch(server.url()) == folder / NAME


@pytest.mark.parametrize('damage', [BODY[:-1], BODY[:999], b'', BODY[:-1] + b'x'])
def test_a_file_laid_by_hand_is_verified(folder, damage):
    url = f'http://127.0.0.1:9/{NAME}'
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(damage)
    found = hashlib.sha256(damage).hexdigest()[:8]
    for load in (lambda: cache.fetch(url), lambda: weights.read(url)):
        with pytest.raises(ValueError) as caught:
            load()
        for part in (str(folder / NAME), found, f'expected {HASH[:8]}', 'Delete it', url):
            assert part in str(caught.value)
    (folder / NAME).write_bytes(BODY)
    assert cache.fetch(url) == folder / NAME


@pytest.mark.parametrize(
    'name, expected',
    {
        'resnet18-f37072fd.pth': 'f37072fd',
        'fcn_20200604_192608-efe53f0d.pth': 'efe53f0d',
        f'a-{HASH}.safetensors': HASH,
        'model-20200604.pth': None,
        'model-12345678.pth': '12345678',
        'model-abc.pth': None,
        'model.pth': None,
    }.items(),
)
def test_hashes_in_names(name, expected):
    assert cache._hash_in(name) == expected


@pytest.mark.parametrize(
    'url, name',
    {
        'https://a.b/c/d.pth?download=1#x': 'd.pth',
        'https://a.b/c%2Fd.pth': 'd.pth',
        'https://a.b/%2e%2e/d%20e.pth': 'd e.pth',
    }.items(),
)
def test_places(folder, url, name):
    assert cache.place(url) == folder / name


@pytest.mark.parametrize(
    'url', ['https://a.b', 'https://a.b/', 'https://a.b/c/..', 'https://a.b/..%5Cd']
)
def test_addresses_of_no_file(url):
    with pytest.raises(ValueError, match='names no file'):
        cache.place(url)


def test_a_folder_that_can_not_be_written(server, folder):
    folder.parent.mkdir(parents=True)
    folder.write_text('a file where the folder should be')
    with pytest.raises(FileNotFoundError, match='could not be fetched'):
        cache.fetch(server.url())


def _fetch(url: str, home: str, queue) -> None:
    torch.hub.set_dir(home)
    queue.put(cache.fetch(url).read_bytes() == BODY)


def test_ranks_that_start_at_once_fetch_one_file(server, folder):
    fork = multiprocessing.get_context('fork')
    queue = fork.Queue()
    home = str(folder.parent)
    ranks = [fork.Process(target=_fetch, args=(server.url(), home, queue)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    assert [queue.get(timeout=60) for _ in ranks] == [True] * 4
    for rank in ranks:
        rank.join()
    assert server.requests == 1 and names(folder) == [NAME]
