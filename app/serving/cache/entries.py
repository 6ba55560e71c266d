"""A cached answer as bytes: the canonical band, the prediction, and until when it holds. No pickle."""

import struct
import zlib
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import isfinite

import numpy as np
import orjson

from app.crystals.geometry.identity import CanonicalBand
from app.models.prediction import Prediction
from app.serving.cache.contract import CacheScope

#: Part of every key: replicas of two versions never read each other's bytes.
_FORMAT = 2
_HEADER = struct.Struct("<II")  # CRC-32 of what follows, length of the JSON part
_EXACT = np.dtype("<f8")  # lattice and hop
_COMPACT = np.dtype("<f4")  # host in 0..1 and distances: round by 6e-8 of themselves, under 1e-5 angstrom


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cached answer; expires_at in seconds since 1970."""

    band: CanonicalBand
    prediction: Prediction
    expires_at: float


def store_key(scope: CacheScope, bucket_key: str) -> str:
    """The key of a bucket within a scope; nothing of the crystal or the API key can be read from it."""
    parts = [scope.key_id, scope.model_name, scope.model_digest, scope.directional, bucket_key]
    return f"ionpath:b{_FORMAT}:{sha256(orjson.dumps(parts)).hexdigest()[:40]}"


def entry_field(band: CanonicalBand) -> str:
    """Names an entry in its bucket: the same upload, answered twice at once, is kept once."""
    parts = (band.lattice_angstrom, band.host_frac_coords, band.hop_frac)
    return sha256(b"".join(np.round(part, 6).tobytes() for part in parts)).hexdigest()[:16]


def can_be_kept(prediction: Prediction) -> bool:
    """Whether every number is finite: JSON has no other, and a broken answer must not outlive its cause."""
    return all(map(isfinite, (prediction.barrier_ev, *prediction.quantiles_ev)))


def encode(entry: Entry) -> bytes:
    """An entry as bytes, about 2 kB for 100 atoms."""
    band = entry.band
    facts = orjson.dumps(
        {
            "ion": band.ion,
            "elements": band.elements,
            "invariants_angstrom": band.invariants_angstrom,
            "expires_at": entry.expires_at,
            "prediction": asdict(entry.prediction),
        }
    )
    exact = np.concatenate([band.lattice_angstrom, band.hop_frac[None, :]]).astype(_EXACT)
    host = np.column_stack([band.host_frac_coords, band.middle_distances_angstrom])
    body = facts + exact.tobytes() + host.astype(_COMPACT).tobytes()
    length = struct.pack("<I", len(facts))
    return _HEADER.pack(zlib.crc32(length + body), len(facts)) + body


def decode(content: bytes) -> Entry | None:
    """The entry, or None where the bytes are cut off, changed or not an entry."""
    if len(content) < _HEADER.size:
        return None
    checksum, length = _HEADER.unpack_from(content)
    if zlib.crc32(content[_HEADER.size - 4 :]) != checksum:
        return None
    numbers = _HEADER.size + length
    facts = orjson.loads(content[_HEADER.size : numbers])
    exact = np.frombuffer(content, _EXACT, count=12, offset=numbers).reshape(4, 3)
    host = np.frombuffer(content, _COMPACT, offset=numbers + exact.nbytes).reshape(-1, 4)
    band = CanonicalBand(
        ion=facts["ion"],
        elements=tuple((element, count) for element, count in facts["elements"]),
        lattice_angstrom=exact[:3].astype(np.float64),
        host_frac_coords=host[:, :3].astype(np.float64),
        hop_frac=exact[3].astype(np.float64),
        middle_distances_angstrom=host[:, 3].astype(np.float64),
        invariants_angstrom=tuple(facts["invariants_angstrom"]),
    )
    stored = facts["prediction"]
    prediction = Prediction(
        barrier_ev=stored["barrier_ev"],
        quantiles_ev=tuple(stored["quantiles_ev"]),
        in_domain=stored["in_domain"],
        domain_reasons=tuple(stored["domain_reasons"]),
        leans_on=stored["leans_on"],
    )
    return Entry(band=band, prediction=prediction, expires_at=facts["expires_at"])
