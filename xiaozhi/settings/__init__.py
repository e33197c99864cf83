"""Typed settings: everything an operator can decide, read from layers, checked at once, frozen.

    schema.py, server.py, management.py   what can be set: names, units, ranges, defaults (pydantic)
    fields.py              the kinds of values the schema is made of
    yaml_reader.py         a YAML file -> plain data, strictly, with line numbers
    environment.py         environment variables -> the same kind of data
    layers.py              laying them over each other
    checks.py              what no single field can see; faults and warnings in the operator's words
    strength.py            whether a secret can be guessed
    not_yet.py             the one table of keys that are accepted and have no effect yet
    spellings.py           keys in other places, and sections that lost their indentation
    masking.py             what may be shown of secrets: nothing
    loading.py             `load`: all of the above in order
    overlay.py             `lay_over`: a device's own settings over the configuration
    device_settings.py     changing them key by key
    device_form.py         them as the fields of a form
    zone.py                the owner's time zone
    token_secret.py        the one secret the server makes for itself

Not a place for behaviour, and not a reader of provider options: the block of a provider is carried as it was written
(`Settings.block`), because only the provider knows what belongs in it (`providers/registry.py` validates those).
Key names are those of the server most devices talk to today, so that its users can bring their file.
"""

from xiaozhi.settings.boards import BoardTraits
from xiaozhi.settings.loading import Examined, Loaded, examine, load
from xiaozhi.settings.masking import masked, masked_yaml
from xiaozhi.settings.overlay import lay_over
from xiaozhi.settings.schema import SECTIONS, Settings
from xiaozhi.settings.token_secret import token_secret
from xiaozhi.settings.zone import zone_name, zone_of

__all__ = [
    "SECTIONS",
    "BoardTraits",
    "Examined",
    "Loaded",
    "Settings",
    "examine",
    "lay_over",
    "load",
    "masked",
    "masked_yaml",
    "token_secret",
    "zone_name",
    "zone_of",
]
