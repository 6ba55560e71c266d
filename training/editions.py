"""Names of what training keeps on disk: a digest of the configuration and data it depends on, and of an edition.

A result that was kept is used again only under the same name. An edition is a number that is raised by hand, together
with the figures in tests/unit/training/test_editions.py, when a change of code changes the results themselves; an edit
of a comment or a docstring leaves it, and with it every finished fit.
"""

import hashlib
import json

#: Of the graphs that app.models makes of bands and crystals.
GRAPHS = 1
#: Of the descriptors and the potential's features that kernel machines read.
FEATURES = 2
#: Of a potential's relaxation; tests/unit/models/test_relaxation.py has its figures.
RELAXATIONS = 1
#: Of a crystal's hops and of how they percolate, for crystals whose conductivity is measured.
PERCOLATION = 3
#: Of networks and of the loop that fits them; graphs have an edition of their own, which counts here as well.
FITS = 1


def short_digest(*parts: object) -> str:
    """The first ten hexadecimal digits of the SHA-256 of JSON values.

    Raises:
        TypeError: a part is not JSON.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
