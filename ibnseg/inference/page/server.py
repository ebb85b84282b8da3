"""The server of the page: this machine's own, which keeps nothing. No torch, no MM packages."""

import errno
import json
import logging
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn
from urllib.parse import urlsplit

MOST_BYTES = 64 << 20  # of an uploaded file
_WAITING = 8  # photos
_PORTS = range(8000, 8100)  # tried where none is named
_THIS_MACHINE = ('127.0.0.1', 'localhost', '::1')
_HEADERS = {
    'Cache-Control': 'no-store',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}

#: A photo's file, and whether confidence is wanted -> what the page gets as JSON; 'error': why not.
Predict = Callable[[bytes, bool], dict[str, Any]]


def _werkzeug() -> tuple[Any, Any, Any]:
    """Import the library. Raises ValueError, saying how to get it."""
    try:
        from werkzeug import exceptions, serving, wrappers
    except ImportError as error:
        raise ValueError(
            f'{error.name or "werkzeug"} is not installed, which the page needs: pip install '
            'werkzeug (or ibnseg[page] in the checkout)'
        ) from error
    return exceptions, serving, wrappers


class Server:
    """Takes an address at once, and answers from `serve` on.

    Args:
        host: an address or name of this machine. But for its own (127.0.0.1), others reach it.
        port: 0 for any free one, None for the first free one from 8000 on.

    Attributes:
        address: of the page, http://...
        is_private: whether it answers this machine alone.

    Raises OSError: the port is in use, or not to be had. ValueError: werkzeug is absent.
    """

    def __init__(self, host: str = '127.0.0.1', port: int | None = None) -> None:
        _werkzeug()
        self._socket = _bound(host, port)
        self._host, self._port = host, self._socket.getsockname()[1]
        self.is_private = host in _THIS_MACHINE
        self.address = f'http://{f"[{host}]" if ":" in host else host}:{self._port}/'

    def serve(self, page: str, policy: str, predict: Predict) -> NoReturn:
        """Answer until an interrupt. Photos are predicted one after the other, in this thread.

        Args:
            page: HTML.
            policy: its content security policy.
            predict: said on the page.
        """
        _, serving, _ = _werkzeug()
        log = logging.getLogger('werkzeug')
        log.addHandler(logging.NullHandler())  # else werkzeug adds one that prints
        log.propagate = False
        waiting: queue.Queue = queue.Queue(_WAITING)
        app = _app(page, policy, waiting, self.is_private)
        server = serving.make_server(
            self._host, self._port, app, threaded=True, fd=self._socket.fileno()
        )
        # In another thread: werkzeug's loop would swallow the interrupt.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while True:
            data, confidence, answer = waiting.get()
            answer.set_result(predict(data, confidence))


def _bound(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    for each in _PORTS if port is None else [port]:
        try:
            return socket.create_server((host, each), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = str(error.strerror).partition(' (while')[0]
                text = f'--host {host}, port {each}: {why}. Name another'
                raise OSError(text) from error
    which = f'ports {_PORTS[0]} to {_PORTS[-1]} are' if port is None else f'port {port} is'
    raise OSError(f'{which} in use. Name another by --port (0: any free one)')


def _app(page: str, policy: str, waiting: queue.Queue, is_private: bool) -> Any:
    """Return the WSGI application: the page at /, and a photo sent to /predict as JSON."""
    exceptions, _, wrappers = _werkzeug()

    class Request(wrappers.Request):
        max_content_length = MOST_BYTES

    def response(content: dict[str, Any], status: int) -> Any:
        return wrappers.Response(json.dumps(content), status, mimetype='application/json')

    def predicted(request: Request) -> Any:
        # A browser lets the script of another site send this type only if asked first; we say no.
        if request.mimetype != 'application/octet-stream':
            raise exceptions.UnsupportedMediaType('expected the bytes of a photo')
        answer: Future = Future()
        try:
            waiting.put_nowait((request.get_data(), 'confidence' in request.args, answer))
        except queue.Full:
            text = f'{_WAITING} photos are waiting already; try again in a while'
            raise exceptions.ServiceUnavailable(text) from None
        content = answer.result()
        return response(content, 422 if 'error' in content else 200)

    def routed(request: Request) -> Any:
        # A stranger's name that is made to lead here would make this page one of that site.
        if is_private and urlsplit(f'//{request.host}').hostname not in _THIS_MACHINE:
            raise exceptions.Forbidden('this page is for this machine alone')
        if (request.method, request.path) == ('POST', '/predict'):
            return predicted(request)
        if request.path != '/' or request.method not in ('GET', 'HEAD'):
            raise exceptions.NotFound('no such page')
        return wrappers.Response(page, mimetype='text/html')

    @Request.application
    def app(request: Request) -> Any:
        try:
            found = routed(request)
        except exceptions.HTTPException as error:
            found = response(dict(error=error.description), error.code)
        found.headers.update(_HEADERS | {'Content-Security-Policy': policy})
        return found

    return app
