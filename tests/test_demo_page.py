"""`ibnseg demo-page`, as a real process with a real browser before it."""

import base64
import copy
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from ibnseg_tools import demo_page
from ibnseg_tools import predict as tool
from PIL import Image
from processes import run as command
from test_inference import make_run
from test_page import browser  # noqa: F401

from ibnseg import load
from ibnseg.inference.page import answers
from ibnseg.inference.page.server import Server

ROOT = Path(__file__).parents[1]
pytest.importorskip('werkzeug', reason='werkzeug is not installed (ibnseg[page])')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return [make_run(folder / name, seed, name) for seed, name in enumerate(('resnet', 'ibn'))]


@pytest.fixture(scope='module')
def model(runs):
    return load(runs[0], device='cpu')


@pytest.fixture(scope='module')
def process(runs, tmp_path_factory):
    """(process, address, where its temporary files are); the last test ends it."""
    kept = tmp_path_factory.mktemp('kept')
    words = [ROOT / 'tools/demo_page.py', *runs, '--port', 0, '--device', 'cpu']
    started = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), TMPDIR=str(kept)),
    )
    said = [started.stdout.readline() for _ in range(4)]
    assert [line.split()[:1] for line in said] == [['model'], ['model'], ['page'], ['Open']]
    yield started, said[2].split()[1], kept
    started.kill()
    started.communicate()


@pytest.fixture
def served(process):
    return process[1:]


@pytest.fixture
def shown(browser, served):  # noqa: F811
    """The page in a browser. At the end: it asked for nothing but itself and predictions."""
    asked, said = [], []
    one = browser.new_page(viewport=dict(width=1280, height=844))
    one.on('request', lambda request: asked.append(request.url))
    one.on('console', lambda message: said.append(message.text))
    one.on('pageerror', lambda error: said.append(str(error)))
    one.goto(served[0])
    yield one
    one.close()
    own = served[0], f'{served[0]}predict', f'{served[0]}predict?confidence'
    assert [url for url in asked if url not in own and not url.startswith('data:')] == []
    assert [text for text in said if 'status of 4' not in text] == []
    assert [*served[1].glob('ibnseg*')] == []


def photo_file(path, form='PNG', size=(150, 100), mode='RGB', **options) -> Path:
    small = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)
    picture.save(path, form, **options)
    return path


def turned(path) -> Path:
    tags = Image.Exif()
    tags[0x0112] = 6
    return photo_file(path, 'JPEG', exif=tags)


def deep(path) -> Path:
    values = np.arange(100 * 150, dtype=np.uint16).reshape(100, 150) * 4
    Image.fromarray(values).save(path, 'PNG')
    return path


def cut(path):
    path.write_bytes(photo_file(path, 'JPEG').read_bytes()[:900])


def choose(shown, path):
    shown.set_input_files('#file', path)
    shown.wait_for_selector('body:not(.busy)')


def drop(shown, name: str, data: bytes):
    handed = shown.evaluate_handle(
        """([name, data]) => { const all = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        all.items.add(new File([bytes], name)); return all; }""",
        [name, base64.b64encode(data).decode()],
    )
    shown.dispatch_event('body', 'drop', dict(dataTransfer=handed))
    shown.wait_for_selector('body:not(.busy)')


def pictures(shown) -> list[bytes]:
    """Return the files of the pictures that are shown, once they are drawn."""
    images = shown.locator('#pictures img')
    drawn = '(all) => all.length > 0 && all.every((one) => one.naturalWidth)'
    shown.wait_for_function(f'({drawn})([...document.querySelectorAll("#pictures img")])')
    found = images.evaluate_all('(all) => all.map((one) => one.src)')
    return [base64.b64decode(one.partition(',')[2]) for one in found]


def test_what_is_shown_is_what_predict_writes(shown, runs, tmp_path):
    path = photo_file(tmp_path / 'a.png')
    words = [*runs, path, '--out', tmp_path / 'out', '--confidence', '--device', 'cpu']
    assert tool.main([*map(str, words)]) == 0
    wrote = json.loads((tmp_path / 'out' / 'predict.json').read_text())['files']['a']

    choose(shown, path)
    heads = shown.locator('figcaption strong').all_inner_texts()
    assert heads == ['photo', 'resnet', 'ibn']
    assert np.asarray(Image.open(io.BytesIO(pictures(shown)[0]))).shape == (100, 150, 3)
    for part in ('overlays', 'labels', 'confidence'):
        shown.check(f'[name=view][value={part.removesuffix("s") if part == "overlays" else part}]')
        shown.wait_for_selector('body:not(.busy)')
        files = [next((tmp_path / 'out' / name / part).iterdir()) for name in ('resnet', 'ibn')]
        assert pictures(shown)[1:] == [file.read_bytes() for file in files]
        assert files[0].read_bytes() != files[1].read_bytes()
    with shown.expect_download() as saved:
        shown.get_by_text('save labels').last.click()
    assert saved.value.suggested_filename == 'a.ibn.labels.png'
    wanted = next((tmp_path / 'out' / 'ibn' / 'labels').iterdir())
    assert saved.value.path().read_bytes() == wanted.read_bytes()
    rows = shown.locator('table tr').evaluate_all(
        '(all) => all.map((row) => [...row.cells].map((one) => one.innerText))'
    )
    assert rows[0] == ['class', 'resnet', 'ibn']
    for name, *cells in rows[1:]:
        of = 'confidence' if name == 'mean confidence' else 'shares'
        for run, cell in zip(('resnet', 'ibn'), cells, strict=True):
            share = wrote[of][run] if of == 'confidence' else wrote[of][run].get(name, 0)
            assert cell == f'{100 * share:.1f}\xa0%' or (share < 0.0005 and cell == '< 0.1\xa0%')
    listed = [name for name, *_ in rows[1:-1]]
    assert sorted(listed) == sorted({name for of in wrote['shares'].values() for name in of})


@pytest.mark.parametrize(
    'make',
    [turned, deep, lambda path: photo_file(path, mode='RGBA'),
     lambda path: photo_file(path, mode='L')],
    ids=['EXIF', '16 bits', 'RGBA', 'grey'],
)  # fmt: skip
def test_odd_photos_are_read_as_by_predict(shown, model, tmp_path, make):
    path = make(tmp_path / 'photo.png')
    drop(shown, 'photo', path.read_bytes())
    shown.check('[name=view][value=labels]')
    expected = answers.files.maps(model(path))['labels']
    assert pictures(shown)[1] == expected


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda path: path.write_bytes(b'no photo'), 'no picture, or of a kind that Pillow lacks'),
        (lambda path: path.touch(), 'no picture, or of a kind that Pillow lacks'),
        (cut, 'cannot be read as a photo (image file is truncated'),
        (lambda path: photo_file(path, 'TIFF'), 'photo is TIFF, mode RGB; expected PNG or JPEG'),
    ],
    ids=['text', 'empty', 'cut', 'TIFF'],
)
def test_what_is_no_photo_is_said_in_one_line(shown, tmp_path, make, said):
    make(tmp_path / 'photo')
    name = '<img src=x onerror=window.hacked=1>.png'
    drop(shown, name, (tmp_path / 'photo').read_bytes())
    text = shown.locator('#error').inner_text()
    assert text.startswith(f'{name}: {said}') and '\n' not in text and '/tmp' not in text
    assert shown.locator('#result').is_hidden() and shown.evaluate('window.hacked') is None
    choose(shown, photo_file(tmp_path / 'next.png'))
    assert shown.locator('#error').is_hidden() and len(pictures(shown)) == 3


def test_a_strangers_name_is_text(shown, tmp_path):
    name = '<img src=x onerror=window.hacked=1>.png'
    drop(shown, name, photo_file(tmp_path / 'a.png').read_bytes())
    assert len(pictures(shown)) == 3
    assert shown.locator('#status').inner_text() == name
    assert shown.evaluate('window.hacked') is None


def test_a_huge_photo_is_refused_undecoded(shown, tmp_path):
    path = tmp_path / 'huge.png'
    Image.new('1', (6000, 5000)).save(path)
    choose(shown, path)
    said = shown.locator('#error').inner_text()
    assert said.startswith('huge.png: 6000x5000 pixels; this page takes 25 million at most')


def test_a_phone_shows_all_without_scrolling_sideways(shown, tmp_path):
    shown.set_viewport_size(dict(width=390, height=844))
    choose(shown, photo_file(tmp_path / f'{"x" * 200}.png'))
    assert shown.evaluate('document.documentElement.scrollWidth') <= 390


def ask(address, data=None, code=200, **headers):
    """Return (headers, content) of an answer of this code."""
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(address, data, headers))
    except urllib.error.HTTPError as error:
        answer = error
    assert answer.code == code
    return answer.headers, answer.read()


def test_other_sites_and_other_names_get_nothing(served, tmp_path):
    address, _ = served
    photo = photo_file(tmp_path / 'a.png').read_bytes()
    port = address.rpartition(':')[2].strip('/')
    headers, page = ask(address)
    assert "default-src 'none'" in headers['Content-Security-Policy'] and b'resnet' in page
    assert b'http' not in page.replace(b'http-equiv', b'')
    octets = dict(Content_Type='application/octet-stream')
    assert b'overlay' in ask(f'{address}predict', photo, **octets)[1]
    # The types that another site's script may send unasked.
    for kind in ('text/plain', 'multipart/form-data', 'application/x-www-form-urlencoded'):
        ask(f'{address}predict', photo, 415, Content_Type=kind)
    for name in ('evil.example', f'evil.example:{port}', '127.0.0.1.evil.example'):
        ask(address, None, 403, Host=name)
        ask(f'{address}predict', photo, 403, Host=name, **octets)
    ask(f'{address}predict', bytes((64 << 20) + 1), 413, **octets)
    for path in ('predict', 'a', '../../etc/passwd', 'page.js', '%2e%2e/setup.py'):
        ask(address + path, None, 404)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['absent'], 'absent: no such config, file or name'),
        (['{run}', 'photo.jpg'], 'photo.jpg: no network. Give the folder of a run'),
        (['{run}', '--port', '65536'], '--port 65536: expected 0 (any free one) to 65535'),
        (['{run}', '--port', '{used}'], 'port {used} is in use. Name another by --port'),
        (['{run}', '--host', '192.0.2.1'], '--host 192.0.2.1, port 8000: '),
    ],
)
def test_what_cannot_be_served_is_said(runs, capsys, words, said):
    with socket.create_server(('127.0.0.1', 0)) as other:
        known = dict(run=runs[0], used=other.getsockname()[1])
        words = [word.format(**known) for word in words]
        assert demo_page.main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f'error: {said.format(**known)}') and err.count('\n') == 1 and not out


def test_without_the_library_it_says_what_to_install(runs, tmp_path):
    (tmp_path / 'werkzeug.py').write_text('raise ImportError(name="werkzeug")')
    path = f'{tmp_path}{os.pathsep}{ROOT}'
    done = command(ROOT / 'tools/demo_page.py', runs[0], code=2, fresh=True, PYTHONPATH=path)
    assert 'werkzeug is not installed' in done.stderr and 'pip install werkzeug' in done.stderr
    assert done.stderr.count('\n') == 1


def test_networks_of_other_classes_are_refused(model):
    other = copy.copy(model)
    other.classes = ('one', 'two')
    with pytest.raises(ValueError, match='other classes each'):
        answers.Answers([model, other])


def test_the_next_free_port_and_this_machine_alone():
    one, two = Server(), Server()
    assert one.is_private and not Server('0.0.0.0', 0).is_private
    ports = [int(each.address.rpartition(':')[2].strip('/')) for each in (one, two)]
    assert ports[0] < ports[1] and {*ports} < {*range(8000, 8100)}
    socket.create_connection(('127.0.0.1', ports[0])).close()
    with pytest.raises(ConnectionRefusedError):  # another address of this machine
        socket.create_connection(('127.0.0.2', ports[0]))


def test_ctrl_c_while_it_predicts(process, tmp_path):
    """One line, and nothing is left of the photo; nor did any request print a word."""
    running, address, kept = process
    photo = photo_file(tmp_path / 'big.png', size=(4000, 3000)).read_bytes()
    port = int(address.rpartition(':')[2].strip('/'))
    with socket.create_connection(('127.0.0.1', port)) as asking:
        head = (
            f'POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n'
            f'Content-Type: application/octet-stream\r\nContent-Length: {len(photo)}\r\n\r\n'
        )
        asking.sendall(head.encode() + photo)
        while not [*kept.glob('ibnseg*')]:
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert (running.returncode, out) == (130, '') and [*kept.glob('ibnseg*')] == []
    assert err == 'interrupted; the page has ended, and no photo is kept\n'
