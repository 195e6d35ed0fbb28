"""`clipsearch verify`: check and repair the index."""

from clipsearch.cli.app import DebugOption, IndexOption, JsonOption, new_app, open_folder, print_json, print_line
from clipsearch.output import records, text

app = new_app()


@app.command()
def verify(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check the index and repair what can be rebuilt.

    Damaged embeddings and records are dropped; the next clipsearch index creates them again. Damaged files of
    concepts, people and saved searches are restored from their backups.

    Examples:
      clipsearch verify
      clipsearch verify --json | jq -r '.repaired[]'

    Exit status: 0 the index is OK now, 2 damaged beyond repair.
    """
    verified, restored = open_folder(index).verify()
    repaired = [*text.repairs(verified), *(f"damaged {name}, restored from the backup" for name in restored)]
    if json:
        print_json(records.verified(verified, repaired))
        return
    for sentence in repaired:
        print_line(f"repaired: {sentence}")
    print_line(f"OK: {text.photos(verified.photos)}, {verified.embeddings:,} embeddings")
