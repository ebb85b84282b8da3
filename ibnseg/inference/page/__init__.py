"""A page on this machine: a photo dropped into a browser, predicted by one or several networks.

`server.py` speaks HTTP and knows no network; `answers.py` predicts. The page (page.html, page.css,
page.js) loads nothing from elsewhere, and what it shows of a photo is what `ibnseg predict` writes.
"""
