"""`clipsearch verify`: check the index against itself, and repair it."""

from clipsearch.cli.app import DebugOption, IndexOption, JsonOption, explained, new_app, print_json, print_line
from clipsearch.output import records, text
from clipsearch.paths import index_folder
from clipsearch.search import concepts
from clipsearch.store.catalogue import Store
from clipsearch.store.verify import verify as verify_store

app = new_app()


@app.command()
@explained
def verify(index: IndexOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check the index against itself and repair what is derived.

    What cannot be made again from the rest is embedded again by the next index. Damaged concepts are replaced by the
    last good ones.

    Examples:
      clipsearch verify
      clipsearch verify --json | jq -r '.repaired[]'

    Exit status: 0 when the index is sound now, 2 when it is damaged beyond repair.
    """
    with Store.open(index_folder(index), write=True) as store:
        verified = verify_store(store)
        restored = concepts.restore(store.folder)
    repaired = [
        *text.repairs(verified),
        *(["the concepts were damaged; the last good ones are back"] if restored else []),
    ]
    if json:
        print_json(records.verified(verified, repaired))
        return
    for sentence in repaired:
        print_line(f"repaired: {sentence}")
    print_line(f"sound: {verified.photos:,} photos, {verified.embeddings:,} embeddings")
