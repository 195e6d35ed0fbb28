"""`clipsearch status`: show folders, counts and skipped files."""

from clipsearch.cli.app import DebugOption, IndexOption, JsonOption, explained, new_app, print_json, print_line
from clipsearch.indexing.status import status_of
from clipsearch.output import records, text
from clipsearch.paths import index_place
from clipsearch.store.opening import open_index

app = new_app()


@app.command()
@explained
def status(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    r"""Show indexed folders, counts and skipped files.

    Examples:
      clipsearch status
      clipsearch status --json | jq '.skipped[] | "\(.path): \(.reason)"'
    """
    with open_index(index_place(index)) as store:
        found = status_of(store)
    if json:
        print_json(records.status(found))
        return
    for line in text.status(found):
        print_line(line)
