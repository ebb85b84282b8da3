"""Fetching, against a server on this machine that does what real ones do."""

import hashlib
import multiprocessing
import re
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
HALF = len(BODY) // 2


class Server(ThreadingHTTPServer):
    """Serves `body` at every address, in the way that `manner` says.

    'ranges': as a good server; 'whole': Range is ignored; 'breaks': every answer ends after a
    third of what it announced; 'breaks once'; 'wrong start': a part, but not the one asked for;
    'unsized': no Content-Length; 404, 500: that error.
    """

    daemon_threads = True
    body = BODY
    manner: str | int = 'ranges'

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.requests: list[str | None] = []  # the Range of each

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the game."""

    def url(self, name: str = NAME) -> str:
        return f'http://127.0.0.1:{self.server_port}/v1.0/{name}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get('Range')
        server.requests.append(wanted)
        if isinstance(server.manner, int):
            self.send_error(server.manner)
            return
        start = 0
        if wanted and server.manner != 'whole':
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            if start >= len(server.body):
                self.send_error(416)
                return
            if server.manner == 'wrong start':
                start //= 2
            self.send_response(206)
            end = len(server.body) - 1
            self.send_header('Content-Range', f'bytes {start}-{end}/{len(server.body)}')
        else:
            self.send_response(200)
        rest = server.body[start:]
        if server.manner != 'unsized':
            self.send_header('Content-Length', str(len(rest)))
        self.end_headers()
        if str(server.manner).startswith('breaks'):
            rest = rest[: len(rest) // 3]
            if server.manner == 'breaks once':
                server.manner = 'ranges'
        self.wfile.write(rest)

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


def begun(folder: Path, content: bytes, name: str = NAME) -> Path:
    """What a download that broke has left."""
    folder.mkdir(parents=True)
    (folder / f'{name}.partial').write_bytes(content)
    return folder / f'{name}.partial'


@pytest.mark.parametrize('manner', ['ranges', 'whole', 'unsized'])
def test_a_file_is_fetched_once(server, folder, manner):
    server.manner = manner
    for _ in range(2):
        path = cache.fetch(server.url())
        assert path == folder / NAME and path.read_bytes() == BODY
    assert names(folder) == [NAME]
    assert server.requests == [None]


@pytest.mark.parametrize('manner', ['ranges', 'whole', 'wrong start'])
def test_a_broken_download_is_continued_or_started_over(server, folder, manner):
    server.manner = manner
    begun(folder, BODY[:HALF])
    assert cache.fetch(server.url()).read_bytes() == BODY
    assert names(folder) == [NAME]
    expected = [f'bytes={HALF}-']
    assert server.requests == (expected if manner != 'wrong start' else [*expected, None])


def test_an_answer_that_breaks_off_is_continued_in_the_same_call(server, folder):
    server.manner = 'breaks once'
    assert cache.fetch(server.url()).read_bytes() == BODY
    assert server.requests == [None, f'bytes={len(BODY) // 3}-']
    assert names(folder) == [NAME]


def test_a_server_that_always_breaks_off(server, folder):
    """What came is kept beside, never used, and goes on when the server is well again."""
    server.manner = 'breaks'
    with pytest.raises(FileNotFoundError, match=r'fetched \(broke off after') as caught:
        cache.fetch(server.url())
    assert str(folder / NAME) in str(caught.value)
    assert names(folder) == [f'{NAME}.partial']
    kept = (folder / f'{NAME}.partial').read_bytes()
    assert HALF < len(kept) < len(BODY) and BODY.startswith(kept)
    server.manner = 'ranges'
    assert cache.fetch(server.url()).read_bytes() == BODY
    assert server.requests[-1] == f'bytes={len(kept)}-'


@pytest.mark.parametrize(
    'left', [b'', BODY[:HALF], b'x' * HALF, BODY, BODY + b'more', b'x' * len(BODY)]
)
def test_whatever_was_left_is_never_used_unseen(server, folder, left):
    begun(folder, left)
    assert cache.fetch(server.url()).read_bytes() == BODY
    assert names(folder) == [NAME]


@pytest.mark.parametrize('left', [None, BODY[:HALF]])
def test_wrong_bytes_are_thrown_away(server, folder, left):
    server.body = b'<html>log in</html>' * 50000
    if left:
        begun(folder, left)
    found = hashlib.sha256(server.body).hexdigest()[:8]
    with pytest.raises(ValueError, match=f'begins with {found}, expected {HASH[:8]}.*proxy'):
        cache.fetch(server.url())
    assert names(folder) == []


@pytest.mark.parametrize('code', [404, 500])
@pytest.mark.parametrize('left', [None, BODY[:HALF]])
def test_an_error_of_the_server(server, folder, code, left):
    server.manner = code
    if left:
        begun(folder, left)
    with pytest.raises(FileNotFoundError, match=f'HTTP Error {code}') as caught:
        cache.fetch(server.url())
    for part in (server.url(), str(folder / NAME), 'init_cfg=None'):
        assert part in str(caught.value)
    assert names(folder) == ([f'{NAME}.partial'] if left else [])
    assert len(server.requests) == 1


def test_nobody_there(server, folder):
    server.server_close()
    with pytest.raises(FileNotFoundError, match='could not be fetched'):
        cache.fetch(server.url())
    assert names(folder) == []


@pytest.mark.parametrize('damage', [BODY[:-1], BODY[:HALF], b'', BODY[:-1] + b'x'])
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


def test_without_a_hash_nothing_is_continued(server, folder):
    """No one could tell whether the halves belong together."""
    begun(folder, b'x' * HALF, 'plain.pth')
    assert cache.fetch(server.url('plain.pth')).read_bytes() == BODY
    assert server.requests == [None]
    server.manner = 'breaks'
    with pytest.raises(FileNotFoundError, match='broke off'):
        cache.fetch(server.url('other.pth'))
    assert names(folder) == ['plain.pth']
    assert server.requests == [None] * 4


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


def test_a_state_dict_through_the_whole_way(server, folder, tmp_path):
    state = {'conv1.weight': torch.rand(3)}
    torch.save(state, tmp_path / 'x.pth')
    server.body = (tmp_path / 'x.pth').read_bytes()
    name = f'x-{hashlib.sha256(server.body).hexdigest()[:8]}.pth'
    assert torch.equal(weights.read(server.url(name))['conv1.weight'], state['conv1.weight'])


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
    assert server.requests == [None] and names(folder) == [NAME]
