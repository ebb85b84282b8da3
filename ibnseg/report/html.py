"""A report as one HTML page: its Markdown, rendered. Nothing is loaded, nothing runs."""

from markdown_it import MarkdownIt

_STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
h2 { border-bottom: 1px solid #8886; margin-top: 2.5rem; padding-bottom: .2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8884; white-space: nowrap }
th { text-align: left }
tbody tr:hover { background: #8882 }
:root { color-scheme: light dark }
"""


def html(markdown: str) -> str:
    """Render what `page.markdown` (and what follows it) wrote.

    HTML, links and pictures stay text, whatever a stranger's record says.
    """
    parser = MarkdownIt('commonmark', {'html': False}).enable('table')
    parser.disable(['link', 'image', 'autolink', 'html_inline', 'html_block'])
    body = parser.render(markdown)
    body = body.replace('<table>', '<div class="wide"><table>').replace(
        '</table>', '</table></div>'
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<title>Results</title>\n'
        f'<style>{_STYLE}</style>\n{body}</html>\n'
    )
