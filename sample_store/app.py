"""The sample store over HTTP."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sample_store.store import SampleStore


def build_app(store: SampleStore) -> Starlette:
    """Build an ASGI app that passes every GET request to the store, whatever its path."""

    # Answers take well under a millisecond: handing them to a thread would cost more than it saves.
    async def respond(request: Request) -> Response:
        answer = store.respond(request.url.path, request.query_params, request.headers)
        return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))

    return Starlette(routes=[Route("/{path:path}", respond, methods=["GET"])])
