"""The documentation as a site: built strictly, so that every link and anchor is there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('material', reason='mkdocs-material is not installed')
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    out = tmp_path_factory.mktemp('site')
    build(load_config(str(ROOT / 'mkdocs.yml'), site_dir=str(out)))  # strict: a warning raises
    return out


def test_every_page_is_there_and_in_the_navigation(site):
    nav = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav']
    named = set(re.findall(r'[\w/-]+\.md', str(nav)))
    pages = {str(path.relative_to(ROOT / 'docs')) for path in (ROOT / 'docs').rglob('*.md')}
    assert named == pages | {'index.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'}
    for name in named:
        page = name.removesuffix('.md')
        assert (site / ('index.html' if page == 'index' else f'{page}/index.html')).is_file()
    assert 'Two commands' in (site / 'index.html').read_text()
    assert not (site / 'site.py').exists()


class Loads(HTMLParser):
    """What a page loads by itself."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ('script', 'img', 'iframe') and given.get('src'):
            self.found.append(given['src'])
        if tag == 'link' and given.get('rel') in ('stylesheet', 'preconnect', 'icon'):
            self.found.append(given['href'])


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob('*.html'))
    assert pages
    for page in pages:
        for address in Loads(page.read_text('utf-8')).found:
            assert not re.match(r'(https?:)?//', address), (page, address)
