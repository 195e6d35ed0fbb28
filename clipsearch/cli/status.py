"""`clipsearch status`: show folders, counts and skipped files."""

from clipsearch.cli.app import DebugOption, IndexOption, JsonOption, new_app, open_index, print_json, print_line
from clipsearch.output import records, text

app = new_app()


@app.command()
def status(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    r"""Show indexed folders, counts and skipped files.

    Examples:
      clipsearch status
      clipsearch status --json | jq '.skipped[] | "\(.path): \(.reason)"'
    """
    with open_index(index) as opened:
        found = opened.status()
    if json:
        print_json(records.status(found))
        return
    for line in text.status(found):
        print_line(line)
