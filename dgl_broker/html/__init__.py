"""One kit for every report: pages that open from disk, without network, script or font from elsewhere.

`markup` escapes, `page` frames, `tables`, `charts`, `diagnostics`, `light_curves`, `sky` and `scores` draw. Whatever comes
from data goes through `markup.element` as plain text. Colours follow the reader's screen, dark or light, and print.
"""
