"""MkDocs hooks: the pages of the checkout's root, README first, stand among those of docs/."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    'README.md': 'index.md',
    **{name: name for name in ('CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md')},
}


def on_files(files, config):
    for name, page in PAGES.items():
        text = (ROOT / name).read_text('utf-8')
        text = re.sub(r'\]\(docs/', '](', text)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links that leave docs/ lead to the pages above, or to the source."""

    def moved(found: re.Match) -> str:
        text, name = found.groups()
        return f'[{text}]({PAGES[name]})' if name in PAGES else f'{text} (`{name}`)'

    return re.sub(
        r'\[([^]]*)\]\(\.\./((?:ibnseg|configs|tools|[A-Z]+\.md)[^)]*)\)', moved, markdown
    )
