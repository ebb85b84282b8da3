"""The report's page: what goes into it, and what it does in a browser."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from test_report import CLASSES, hostile, mixture, record
from test_report_certainty import EVIL, write

from ibnseg import report, web
from ibnseg.measure import records
from ibnseg.report import certainty, headline, page, sections
from ibnseg.report.grid import Marked
from ibnseg.report.page.gallery import GalleryError, read

PALETTE = [[128, 64, 128], [0, 0, 142], [70, 130, 180]]
DOMAINS = ['camvid:0001TP', 'idd:val']
LONG = 'long_' + 'x' * 295
NAMES = {'script': '<script>window.hacked=1</script>', 'quotes': '"\'`</script>', 'emoji': '🚗🌧 街',
         'long': LONG, 'markup': '<img src=x onerror=hacked=1>&amp;'}  # fmt: skip


def make_gallery(folder, models, photos=3, domain=DOMAINS[0], size=(16, 8), **changes):
    """Truth: three stripes of classes, then one ignored. Model m is wrong in stripes below m."""
    folder.mkdir(parents=True)
    width, height = size
    truth = np.repeat(np.array([0, 1, 2, 255], np.uint8), width // 4)[None].repeat(height, 0)
    Image.new('RGB', size, (200, 200, 200)).save(folder / 'photo.jpg')
    Image.fromarray(truth).save(folder / 'truth.png')
    for number, _ in enumerate(models):
        wrong = truth.copy()
        wrong[truth < 2 - number] += 1
        wrong[truth == 255] = 0
        Image.fromarray(wrong).save(folder / f'{number}.png')
    whys = ['worst', 'median', 'most improved']
    photo = dict(
        photo='photo.jpg',
        truth='truth.png',
        predictions={name: f'{number}.png' for number, name in enumerate(models)},
        miou=dict.fromkeys(models, 12.34),
    )
    listed = [dict(key=f'frame_{n}', why=whys[n % 3], **photo) for n in range(photos)]
    content = dict(version=1, classes=CLASSES, palette=PALETTE, domains={domain: listed})
    (folder / 'gallery.json').write_text(json.dumps(content | changes))
    return folder


def tabulate(folder, names=('resnet50', 'ibn_a', 'ibn_b'), seeds=(0, 1), files=True):
    """Return the table of models on two domains, and what is certain."""
    paths = [
        write(folder / domain.replace(':', '_'), name, model, seed, domain, files=files)
        for domain in DOMAINS
        for model, name in enumerate(names)
        for seed in seeds
    ]
    table = report.tabulate([records.read(path) for path in paths], names[0], files=paths)
    return table, report.gather(table)


CURVES = {'resnet50': {'loss': [(10, 2.0), (20, 1.0)], 'mIoU': [(20, 30.0), (40, 40.0)]}}


def whole(folder, names=('resnet50', 'ibn_a', 'ibn_b'), **kwargs) -> str:
    gallery = read(make_gallery(folder / 'gallery', names, **kwargs))
    return page.html(*tabulate(folder, names), gallery, CURVES)


class Parsed(HTMLParser):
    """Elements with their attributes, the text of each script by its id, and all other text."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.scripts, self.words, self._in = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = dict(attrs).get('id', '') if tag in ('script', 'style') else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, text):
        if self._in is None:
            self.words.append(text)
        else:
            self.scripts[self._in] = self.scripts.get(self._in, '') + text


# Without a browser.


@pytest.mark.parametrize('name', NAMES.values(), ids=NAMES)
def test_data_in_the_page_is_the_json_that_was_made(tmp_path, name):
    text = whole(tmp_path, ('resnet50', name))
    scripts = [tag for tag, _ in Parsed(text).elements if tag == 'script']
    assert text.count('</script') == len(scripts)
    data = json.loads(Parsed(text).scripts['data'])
    assert data['models'] == ['resnet50', name]
    assert not re.search(r'[<>&]', Parsed(text).scripts['data'])


def test_numbers_are_those_of_the_other_forms(tmp_path):
    table, found = tabulate(tmp_path)
    data = json.loads(Parsed(page.html(table, found)).scripts['data'])
    content = json.loads(report.texts(table, found)['report.json'])
    (group,) = data['groups']
    for row, said in zip(group['rows'], content['rows'], strict=True):
        assert data['models'][row['model']] == said['model']
        for number, cell in row['cells'].items():
            other = said['domains'][data['domains'][int(number)]]
            assert cell['miou'][0] == pytest.approx(other['miou']['mean'], abs=1e-4)
            assert [one[0] for one in cell['iou'].values()] == pytest.approx(
                [one['mean'] for one in other['iou']], abs=1e-4
            )
            domain, runs = data['domains'][int(number)], table.rows[row['model']].runs
            matrix = sum(run.measured[domain].matrix for run in runs)
            shares = 100 * matrix / matrix.sum(1, keepdims=True)
            np.testing.assert_allclose(cell['confusion'], shares, atol=0.01)
    for one, pair in zip(data['pairs'], found.pairs, strict=True):
        assert (one['word'], one['sentence']) == (pair.verdict.word, pair.verdict.sentence)
        assert one['range'] == certainty.limits(pair)


def test_targets_come_first_and_the_own_domain_last():
    text = page.html(report.tabulate([record(), record('ibn_a')]))
    data = json.loads(Parsed(text).scripts['data'])
    (group,) = data['groups']
    names = [data['domains'][column['domain']] for column in group['columns']]
    assert names == ['cityscapes:val', 'gta5:val']
    assert data['domains'][group['home']] == 'gta5:val'


def test_the_page_loads_nothing_and_runs_its_script_alone(tmp_path):
    text = whole(tmp_path)
    parsed = Parsed(text)
    (policy,) = (a['content'] for t, a in parsed.elements if a.get('http-equiv'))
    assert policy.startswith("default-src 'none'") and 'unsafe' not in policy
    scripts = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
    styles = re.findall(r'<style>(.*?)</style>', text, re.DOTALL)
    for kind, (only,) in dict(script=scripts, style=styles).items():
        assert f"{kind}-src '{web.hashed(only)}'" in policy
    names = {name for _, attributes in parsed.elements for name in attributes}
    assert not [name for name in names if name.startswith('on') or name in ('src', 'style')]
    assert [a['href'] for _, a in parsed.elements if 'href' in a] == ['#main']
    # Text becomes HTML nowhere in the script.
    html = r'(inner|outer)HTML|insertAdjacent|\.write\(|eval\(|Function\('
    assert not re.search(html, scripts[0])


def test_all_that_other_forms_say_is_on_the_page(tmp_path):
    """Also marks, notes on protocols, and runs of records that do not belong together."""
    odd = [record('bn'), record('ibn_a', rule='target oracle'), record('ibn_a', 1, away=(4, 3))]
    tables = [(report.tabulate(mixture(), mixed=True), None), (report.tabulate(odd), None)]
    for table, found in [*tables, tabulate(tmp_path)]:
        words = re.sub(r'\s+', ' ', ' '.join(Parsed(page.html(table, found)).words))
        parts = [*sections.page(table), *certainty.sections(found, worst=10)]
        for part in parts:
            said = [part.title, part.text, *part.items]
            grid = part.grid
            for line in (grid.header, *grid.rows, *grid.foot) if grid else ():
                said += [Marked.of(cell).text + Marked.of(cell).mark for cell in line]
            assert [one for one in said if one and one not in words] == []


def test_without_images_photos_and_curves_the_page_says_what_makes_them(tmp_path):
    table, found = tabulate(tmp_path, files=False)
    assert found is None
    text = page.html(table)
    data = json.loads(Parsed(text).scripts['data'])
    assert (data['alone'], data['pairs'], data['gallery'], data['curves']) == ([], [], None, {})
    assert 'how certain that is, is not known' in ' '.join(Parsed(text).words)
    assert 'ibnseg test' in ' '.join(Parsed(text).words)


def test_a_gallery_of_other_classes_is_refused(tmp_path):
    folder = make_gallery(tmp_path / 'gallery', ['resnet50'], classes=['a', 'b', 'c'])
    with pytest.raises(GalleryError, match='classes a, b, c, the records road, car, sky'):
        page.html(*tabulate(tmp_path), read(folder))


def test_a_gallery_of_other_models_is_noted(tmp_path):
    gallery = read(make_gallery(tmp_path / 'gallery', ['resnet50', 'stranger']))
    text = unescape(page.html(*tabulate(tmp_path), gallery))
    assert 'The gallery shows models that no record here is of: stranger.' in text


def test_hostile_tables_and_a_gallery_of_none():
    for text in NAMES.values():
        words = Parsed(page.html(hostile(text))).words
        assert any(text in part for part in words)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(version=2), 'gallery.json: its version is not 1'),
        (dict(classes=[1, 2, 3]), 'list of at most 255 names'),
        (dict(palette=PALETTE[:2]), 'RGB triple for each class'),
        (dict(palette=[[1, 2, 256]] * 3), 'RGB triple'),
        (dict(domains=[]), '"domains" is not'),
        (dict(domains={'x': [7]}), "a photo of 'x' lacks key"),
        (dict(classes=CLASSES[:2], palette=PALETTE[:2]), 'class index 2, but there are 2'),
    ],
)
def test_a_bad_gallery_is_refused_by_name(tmp_path, changes, message):
    folder = make_gallery(tmp_path / 'gallery', ['resnet50'], **changes)
    with pytest.raises(GalleryError, match=re.escape(message)) as caught:
        read(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ('file', 'content', 'message'),
    [
        ('gallery.json', b'{', 'no JSON'),
        ('gallery.json', b'[' * 99999, 'no JSON'),
        ('photo.jpg', b'<svg/>', 'no JPEG or PNG'),
        ('truth.png', b'\x89PNG\r\n', 'no PNG'),
        ('truth.png', Image.new('RGB', (16, 8)), '8-bit grey'),
        ('0.png', Image.new('L', (8, 8)), '8x8, but photo.jpg is 16x8'),
        ('0.png', None, "'0.png' is not there"),
        ('0.png', Image.new('L', (16, 8), 254), 'class index 254'),
    ],
)
def test_a_bad_file_of_a_gallery_is_refused_by_name(tmp_path, file, content, message):
    folder = make_gallery(tmp_path / 'gallery', ['resnet50'])
    (folder / file).unlink()
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    elif content:
        content.save(folder / file)
    with pytest.raises(GalleryError, match=re.escape(message)) as caught:
        read(folder)
    assert file in str(caught.value)


@pytest.mark.parametrize('name', ['../secret.png', '/etc/passwd', '..', 'a/../../b', '\x00', ''])
def test_a_gallery_reads_no_file_outside_its_folder(tmp_path, name):
    folder = make_gallery(tmp_path / 'gallery', ['resnet50'])
    (tmp_path / 'secret.png').write_bytes((folder / 'truth.png').read_bytes())
    content = json.loads((folder / 'gallery.json').read_text())
    content['domains'][DOMAINS[0]][0]['truth'] = name
    (folder / 'gallery.json').write_text(json.dumps(content))
    with pytest.raises(GalleryError, match=r'not the name of a file|lacks key'):
        read(folder)


def test_no_gallery_is_none(tmp_path):
    assert read(tmp_path) is None


# In a browser.


@pytest.fixture(scope='module')
def browser():
    names = ('chromium', 'chromium-browser', 'google-chrome')
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f'none of {names} is installed: the page cannot be tried in a browser')
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    with api.sync_playwright() as playwright:
        # No shared memory, which containers have little of; nobody at Google is looked for.
        options = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                   '--disable-background-networking', '--disable-component-update']  # fmt: skip
        started = playwright.chromium.launch(executable_path=program, args=options)
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """`show(text, width)`: the page from a file, drawn; at the end nothing was on the console."""
    said, opened = [], []

    def opens(text: str, width: int = 1280, **options):
        path = tmp_path / 'shown.html'
        path.write_text(text, 'utf-8', 'replace')
        one = browser.new_page(viewport=dict(width=width, height=844), **options)
        one.on('console', lambda message: said.append(message.text))
        one.on('pageerror', lambda error: said.append(str(error)))
        one.on('dialog', lambda dialog: said.append(dialog.message))
        one.on('request', lambda request: said.append(request.url) if len(opened) > 1 else None)
        one.set_default_timeout(5000)
        one.goto(path.as_uri())
        one.wait_for_selector('html[data-ready]')
        opened.append(one)
        return one

    yield opens
    for one in opened:
        one.close()
    assert said == []


def names_in(shown, where='#results tbody tr:not([hidden]) th') -> list[str]:
    return [text.strip() for text in shown.locator(where).all_inner_texts()]


def test_sorts(show, tmp_path):
    shown = show(whole(tmp_path))
    assert names_in(shown) == ['resnet50', 'ibn_a', 'ibn_b']
    first = shown.locator('#results thead tr:nth-child(2) th').first
    assert first.get_attribute('aria-sort') == 'none'
    values = '#results tbody tr td:nth-child(2)'
    first.locator('button').click()
    found = [float(text.split()[0]) for text in shown.locator(values).all_inner_texts()]
    assert found == sorted(found, reverse=True) and len(set(found)) == 3
    assert first.get_attribute('aria-sort') == 'descending'
    # By keyboard; the focus stays on the button.
    shown.keyboard.press('Enter')
    assert names_in(shown) == ['resnet50', 'ibn_a', 'ibn_b']
    assert first.get_attribute('aria-sort') == 'ascending'
    assert 'ascending' in shown.locator('#status').inner_text()
    shown.locator('#results thead button').first.click()
    assert names_in(shown) == ['ibn_a', 'ibn_b', 'resnet50']


def test_what_was_not_measured_is_last_in_both_directions(show):
    runs = [record('bn'), record('ibn_a'), record('ibn_b', away=(4, 3))]
    runs[1].domains = runs[1].domains[1:]
    shown = show(page.html(report.tabulate(runs)))
    button = shown.locator('#results thead tr:nth-child(2) button').first
    for first in ('ibn_b', 'bn'):
        button.click()
        assert names_in(shown)[0] == first and names_in(shown)[2] == 'ibn_a'
    assert 'n/a' in shown.locator('#results tbody tr').last.inner_text()


def test_filters_by_domain_model_and_class(show, tmp_path):
    shown = show(whole(tmp_path))
    shown.select_option('#domain', label=DOMAINS[1])
    for part in ('#results', '#intervals', '#classes', '#confusion'):
        text = shown.locator(part).inner_text()
        assert DOMAINS[1] in text and DOMAINS[0] not in text
    assert shown.locator('#gallery .card').count() == 0
    shown.select_option('#domain', '')
    assert shown.locator('#gallery .card').count() == 3
    button = shown.locator('.chip.model').nth(1)
    button.click()
    assert button.get_attribute('aria-pressed') == 'false'
    assert names_in(shown) == ['resnet50', 'ibn_b']
    assert 'ibn_a' not in shown.locator('#intervals').inner_text()
    shown.keyboard.press('Enter')
    assert button.get_attribute('aria-pressed') == 'true', 'the focus stays on it'
    before = shown.locator('#classes tbody tr').count()
    shown.select_option('#class', label='car')
    assert shown.locator('#classes tbody tr').count() == before / 3
    assert 'IoU of car' in shown.locator('#results').inner_text()
    shown.locator('[data-why="worst"]').click()
    assert shown.locator('#gallery .card').count() == 1


PIXEL = """([canvas, x]) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(x, 4, 1, 1).data].slice(0, 3);
}"""


def pixels(shown, part: str, number: int = 0) -> list[list[int]]:
    """The colours of the four stripes of a panel's canvas of the first card."""
    canvas = shown.locator(f'.card >> nth=0 >> .{part} canvas').nth(number)
    shown.locator('.card').first.scroll_into_view_if_needed()
    shown.wait_for_function('(canvas) => canvas.width === 16', arg=canvas.element_handle())
    return [shown.evaluate(PIXEL, [canvas.element_handle(), x]) for x in (1, 5, 9, 13)]


def test_photos_truth_predictions_and_errors_are_exact(show, tmp_path):
    shown = show(whole(tmp_path))
    black, orange, dark = [0, 0, 0], [245, 130, 32], [70, 70, 70]
    assert pixels(shown, 'ground-truth') == [*PALETTE, black]
    # The first canvas is the second model (ibn_b or ibn_a), the one above it the baseline.
    assert pixels(shown, 'prediction', 1) == [PALETTE[1], PALETTE[2], PALETTE[2], black]
    assert pixels(shown, 'errors', 1) == [orange, orange, dark, black]
    assert pixels(shown, 'photo')[0] == pytest.approx([200] * 3, abs=2)
    shown.select_option('#model-a', label='ibn_a')
    assert pixels(shown, 'prediction', 1) == [PALETTE[1], PALETTE[1], PALETTE[2], black]


def test_a_class_is_highlighted(show, tmp_path):
    shown = show(whole(tmp_path))
    pixels(shown, 'ground-truth')
    button = shown.locator('[data-class="1"]')
    button.click()
    assert button.get_attribute('aria-pressed') == 'true'
    grey = pixels(shown, 'ground-truth')
    assert grey[1] == PALETTE[1] and grey[0] == grey[2] == [90, 90, 90] and grey[3] == [0, 0, 0]
    # The baseline takes road for car: a false alarm; and car for sky: missed.
    assert pixels(shown, 'errors', 1) == [[70, 160, 235], [245, 130, 32], [70] * 3, [0] * 3]
    assert shown.locator('#class').input_value() == '1', 'one class everywhere'
    shown.keyboard.press('Space')
    assert shown.locator('[aria-pressed="true"][data-class]').count() == 0
    assert pixels(shown, 'ground-truth')[0] == PALETTE[0]


def test_slides(show, tmp_path):
    shown = show(whole(tmp_path))
    slider = shown.locator('.slider').first
    card, over = shown.locator('.card').first, shown.locator('.card canvas.over').first

    def cut() -> str:
        return over.evaluate('(node) => getComputedStyle(node).clipPath')

    before = cut()
    slider.focus()
    for _ in range(5):
        shown.keyboard.press('ArrowRight')
    assert (slider.input_value(), slider.get_attribute('aria-valuetext')) == ('55', '55 % resnet50')
    assert cut() != before and '45%' in cut()
    card.scroll_into_view_if_needed()
    box = card.locator('.prediction').bounding_box()
    shown.mouse.click(box['x'] + box['width'] / 4, box['y'] + box['height'] / 2)
    assert slider.input_value() == '25' and '75%' in cut()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_theme(show, tmp_path, scheme):
    shown = show(whole(tmp_path), color_scheme=scheme)
    paper = '() => getComputedStyle(document.body).backgroundColor'
    first = shown.evaluate(paper)
    assert (first == 'rgb(255, 255, 255)') == (scheme == 'light')
    shown.locator('#theme').click()
    second = shown.evaluate(paper)
    assert first != second
    shown.locator('#theme').click()
    assert shown.evaluate(paper) == first


@pytest.mark.parametrize('name', NAMES.values(), ids=NAMES)
def test_strangers_names_are_text_and_fit_a_phone(show, tmp_path, name):
    shown = show(whole(tmp_path, ('resnet50', name)), 390)
    assert names_in(shown) == ['resnet50', name]
    assert shown.evaluate('window.hacked') is None
    assert shown.locator('main img, main script').count() == 0
    shown.locator('#controls summary').click()
    shown.select_option('#model-a', '1')
    assert shown.evaluate('document.documentElement.scrollWidth') <= 390


def test_a_phone_shows_the_column_of_the_claim(show, tmp_path):
    shown = show(whole(tmp_path), 390)
    assert shown.evaluate('document.documentElement.scrollWidth') <= 390
    heads = shown.locator('#results thead tr:nth-child(2) th')
    for number, name in enumerate(('mIoU', 'Δ', 'verdict')):
        assert name in heads.nth(number).inner_text()
        box = heads.nth(number).bounding_box()
        assert box['x'] >= 0 and box['x'] + box['width'] <= 390
    # The first column stays where it is when the rest is scrolled.
    name = shown.locator('#results tbody th').first
    before = name.bounding_box()['x']
    shown.locator('#results .wide').evaluate('(node) => { node.scrollLeft = 200; }')
    assert name.bounding_box()['x'] == pytest.approx(before, abs=1)
    for part in shown.locator('details').all():
        part.evaluate('(node) => { node.open = true; }')
    assert shown.evaluate('document.documentElement.scrollWidth') <= 390


def test_names_roles_and_headers_for_a_screen_reader(show, tmp_path):
    shown = show(whole(tmp_path))
    pixels(shown, 'ground-truth')
    unnamed = """() => [...document.querySelectorAll('button, select, input, canvas, [role=img]')]
        .filter((n) => !(n.getAttribute('aria-label') || n.labels?.length || n.innerText?.trim()))
        .map((n) => n.outerHTML)"""
    assert shown.evaluate(unnamed) == []
    assert shown.locator('#main th:not([scope])').count() == 0
    tables = shown.locator('#main table')
    for table in tables.all():
        label = table.evaluate(
            "(t) => t.caption?.textContent || t.closest('[aria-label]')?.getAttribute('aria-label')"
        )
        assert label
    levels = [int(n.evaluate('(n) => n.tagName[1]')) for n in shown.locator('h1, h2, h3').all()]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    ids = shown.evaluate("() => [...document.querySelectorAll('[id]')].map((n) => n.id)")
    assert len(set(ids)) == len(ids)


def test_all_controls_are_reached_by_tab_and_show_the_focus(show, tmp_path):
    shown = show(whole(tmp_path, photos=1))
    reached = []
    for _ in range(60):
        shown.keyboard.press('Tab')
        reached.append(
            shown.evaluate(
                """() => { const n = document.activeElement;
                return [n.id || n.className || n.tagName, getComputedStyle(n).outlineStyle] }"""
            )
        )
    names = [name for name, _ in reached]
    assert names[0] == 'skip'
    buttons = ('print', 'theme', 'chip model', 'chip')
    for name in (*buttons, 'domain', 'class', 'model-a', 'model-b', 'slider'):
        assert name in names
    known = ('domain', 'slider', 'chip')
    assert all(outline != 'none' for name, outline in reached if name in known)


def test_photos_far_away_are_not_decoded_and_let_go(show, tmp_path):
    shown = show(whole(tmp_path, photos=60, size=(160, 80)))
    painted = """() => [...document.querySelectorAll('.ground-truth canvas')]
        .map((canvas) => canvas.width === 160)"""
    shown.locator('.card').first.scroll_into_view_if_needed()
    shown.wait_for_function(f'() => ({painted})()[0]')
    first = shown.evaluate(painted)
    assert 0 < sum(first) < 20 and not first[-1]
    shown.locator('.card').last.scroll_into_view_if_needed()
    shown.wait_for_function(f'() => ({painted})().at(-1) && !({painted})()[0]')
    assert sum(shown.evaluate(painted)) < 20


def test_print_draws_every_photo_and_the_browsers_own_command_leaves_out_what_is_undrawn(
    show, tmp_path
):
    shown = show(whole(tmp_path, photos=60, size=(160, 80)))
    shown.emulate_media(media='print')
    cards = shown.locator('.card').evaluate_all(
        '(all) => all.map((one) => '
        "[one.offsetHeight > 0, one.querySelector('canvas').width === 160])"
    )
    assert len(cards) == 60 and all(visible <= drawn for visible, drawn in cards)
    shown.emulate_media(media='screen')
    painted = "[...document.querySelectorAll('.card canvas')].map((canvas) => canvas.width)"
    shown.evaluate(f'() => {{ window.print = () => {{ window.printed = {painted}; }}; }}')
    shown.locator('#print').click()
    shown.wait_for_function('() => window.printed')
    assert set(shown.evaluate('window.printed')) == {160}


def test_records_alone_make_a_whole_page(show, tmp_path):
    shown = show(page.html(tabulate(tmp_path, files=False)[0]))
    text = shown.locator('main').inner_text()
    assert names_in(shown) == ['resnet50', 'ibn_a', 'ibn_b']
    for what in ('Dots without bars', 'No photos', 'No training curves', 'ibnseg test'):
        assert what in text
    assert shown.locator('#confusion .heat td').count() == 2 * 9
    assert shown.locator('#intervals .verdict.unknown').count() == 2 * 2


def test_one_model_alone_and_oracles_and_mixtures_are_drawn(show):
    shown = show(page.html(report.tabulate([record()])))
    assert 'Nothing to compare' in shown.locator('#classes').inner_text()
    runs = [mixture()[0], record('ibn_a', rule='target oracle'), mixture()[2]]
    table = report.tabulate(runs, mixed=True)
    shown = show(page.html(table))
    assert 'ibn_a (target oracle)' in names_in(shown)
    assert '60.0†' in shown.locator('#results').inner_text()
    assert 'Target oracle' in shown.locator('header').inner_text()


def test_strangers_text_in_keys_of_photos(show, tmp_path):
    folder = make_gallery(tmp_path / 'gallery', ['resnet50', 'ibn_a'])
    gallery = read(folder)
    odd = replace(gallery, photos=[replace(one, key=EVIL, why=EVIL) for one in gallery.photos])
    shown = show(page.html(*tabulate(tmp_path), odd))
    assert '<script>alert(1)</script>' in shown.locator('.card .key').first.inner_text()


def test_headline_is_of_the_verdicts(tmp_path):
    table, found = tabulate(tmp_path)
    ((claim, more),) = headline.sentences(table, found)
    gain = found.pairs[-2]
    assert (gain.domain, gain.model, gain.against) == ('idd:val', 'ibn_b', 'resnet50')
    assert claim.startswith('On idd:val, ibn_b trained on camvid:train reaches ')
    assert claim.endswith(f' more than resnet50: {gain.verdict.sentence}.')
    assert gain.verdict.limits in more and 'At home, on camvid:0001TP: +' in more
