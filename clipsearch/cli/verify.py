"""`clipsearch verify`: check and repair the index."""

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
    """Check the index and repair what can be rebuilt.

    Damaged embeddings and records are dropped and made again by the next index. Damaged concepts are restored from
    their backup.

    Examples:
      clipsearch verify
      clipsearch verify --json | jq -r '.repaired[]'

    Exit status: 0 the index is OK now, 2 damaged beyond repair.
    """
    with Store.open(index_folder(index), write=True) as store:
        verified = verify_store(store)
        restored = concepts.restore(store.folder)
    repaired = [
        *text.repairs(verified),
        *(["damaged concepts, restored from the backup"] if restored else []),
    ]
    if json:
        print_json(records.verified(verified, repaired))
        return
    for sentence in repaired:
        print_line(f"repaired: {sentence}")
    print_line(f"OK: {text.photos(verified.photos)}, {verified.embeddings:,} embeddings")
