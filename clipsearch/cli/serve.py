"""`clipsearch serve`: search in a browser."""

import contextlib
import socket
from typing import Annotated

from clipsearch.cli.app import DebugOption, IndexOption, flag, new_app, option, say
from clipsearch.cli.vlm import VLM, AllowRemoteOption, EndpointOption, VlmModelOption, vlm_of
from clipsearch.errors import BadArgument, BadRequest, reason
from clipsearch.paths import index_place

app = new_app()
PORT = 8642


@app.command()
def serve(
    host: Annotated[
        str, option("ADDRESS", "Address; 0.0.0.0 lets other machines in.", show_default=False)
    ] = "127.0.0.1",
    port: Annotated[int | None, option("N", f"Port ({PORT}, or any free one; 0: any).")] = None,
    open_: Annotated[bool, flag("--open", "Open the page in a browser.")] = False,
    revoke: Annotated[bool, flag("--revoke", "Sign out all browsers.")] = False,
    allow_delete: Annotated[bool, flag("--allow-delete", "Let the page move photos to the trash.")] = False,
    vlm_model: VlmModelOption = None,
    endpoint: EndpointOption = None,
    allow_remote: AllowRemoteOption = False,
    detector: Annotated[str | None, option("NAME", "Detector that boxes things, such as owlv2.", VLM)] = None,
    index: IndexOption = None,
    debug: DebugOption = False,
) -> None:
    """Search in a browser.

    Prints the address of the page and serves it until Ctrl-C. The address contains a token, and only someone who has it
    can open the page. The browser stays signed in for a year, so bookmarks of the page survive a restart; --revoke
    signs out all browsers. --host 0.0.0.0 makes the page available to other machines.

    Photos are never changed. Selected ones can be copied into folders below the home folder or an indexed one, and
    keywords are written to sidecars. Duplicates can be moved to a folder, and with --allow-delete, photos to the
    system's trash; both can be undone.

    With --vlm-model or --endpoint, a large photo has a field to ask a vision-language model about it; see ask. With
    --detector, it has a field to find things in it; see where.

    Examples:
      clipsearch serve --open
      clipsearch serve --port 0
      clipsearch serve --host 0.0.0.0
      clipsearch serve --revoke
      clipsearch serve --allow-delete
      clipsearch serve --detector owlv2
    """
    from clipsearch.output import trash
    from clipsearch.search.vqa import Vlm
    from clipsearch.web.app import create_app
    from clipsearch.web.guard import new_token
    from clipsearch.web.secret import cookie_secret
    from clipsearch.web.server import run

    if allow_delete:
        trash.check_supported()
    vlm = vlm_of(vlm_model, endpoint, allow_remote=allow_remote)
    if vlm is not None:
        vlm.check_answerer()
    if detector is not None:
        Vlm(detector).check_detector()
    place, token = index_place(index), new_token()
    with contextlib.closing(_listen(host, port)) as listening:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}/?token="
        with contextlib.suppress(KeyboardInterrupt):
            print(address + token, flush=True)
            say("press Ctrl-C to stop")
            secret, once = cookie_secret(place, revoke=revoke), new_token() if open_ else None
            app = create_app(
                place, token, host, secret=secret, once=once, allow_delete=allow_delete, vlm=vlm, detector=detector
            )
            run(app, listening, address + once if once else None)


def _listen(host: str, port: int | None) -> socket.socket:
    """Listen on a port: by default on `PORT` or, if that is taken, any free one. Raises `BadRequest`."""
    if port is not None and not 0 <= port < 1 << 16:
        raise BadArgument("port", f"must be a number below {1 << 16}, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port is None:
        with contextlib.suppress(OSError, UnicodeError):
            return socket.create_server((host, PORT), family=family)
    try:
        return socket.create_server((host, port or 0), family=family)
    except (OSError, UnicodeError) as error:
        cause = reason(error) if isinstance(error, OSError) else "no such address"
        raise BadRequest(f"cannot listen on {host}, port {port or 'any'}: {cause}") from None
