"""What each input is worth: the same bundle with a part of the input taken away, as a packet would lack it.

The networks were trained with inputs dropped at random, so that they know what it is to be without one; what a network trained
without it could do is another question, and the report says which of the two was asked.
"""

import math

import numpy as np

LONG_AGO = math.log1p(400.0) / 3.0  # `last_detection_age` of a band without a detection; see dgl_broker.light_curve
EMPTY_CONTEXT = {"last_detection_age": LONG_AGO}  # value of a context number that knows nothing, by prefix; 0 otherwise


class Changes:
    """Changes of a card's input, each (images, light_curves, contexts) -> the same."""

    def __init__(self, card_input):
        self.planes = list(card_input["image"]["planes"])
        self.features = list(card_input["light_curve"]["features"])
        self.context = list(card_input["context"])
        self.bands = [b for b in "ugrizy" if f"band_{b}" in self.features]

    def all(self):
        """name -> change, as the report lists them; "complete" changes nothing."""
        companions = {"no_companions": self.no_companions} if any(":" in plane for plane in self.planes) else {}
        return {
            "complete": None,
            **companions,
            "image_only": self.image_only,
            "light_curve_only": self.light_curve_only,
            "no_template": self.no_template,
            "trigger_band_only": self.trigger_band_only,
            "no_host_facts": self.no_host_facts,
        }

    def _empty_context(self, contexts, keep=()):
        out = contexts.copy()
        for i, name in enumerate(self.context):
            if not name.startswith(keep):
                value = next((v for prefix, v in EMPTY_CONTEXT.items() if name.startswith(prefix)), 0.0)
                out[:, i] = value
        return out

    def image_only(self, images, light_curves, contexts):
        """Stamps alone: of the light curve only the trigger remains, of the numbers the trigger's band, S/N and flux."""
        curves = np.zeros_like(light_curves)
        curves[:, -1] = light_curves[:, -1]
        for name in ("total", "has_total", "gap"):
            if name in self.features:
                curves[:, -1, self.features.index(name)] = 0
        return images, curves, self._empty_context(contexts, keep=("trigger_",))

    def light_curve_only(self, images, light_curves, contexts):
        """No stamps at all; light curve and numbers, host brightness included."""
        return np.zeros_like(images), light_curves, contexts

    def no_companions(self, images, light_curves, contexts):
        """The trigger's own stamps alone."""
        out = images.copy()
        for c, plane in enumerate(self.planes):
            if ":" in plane:
                out[:, c] = 0
        return out, light_curves, contexts

    def no_template(self, images, light_curves, contexts):
        """As a packet without template stamp."""
        out = images.copy()
        for c, plane in enumerate(self.planes):
            if plane.startswith("template"):
                out[:, c] = 0
        return out, light_curves, contexts

    def trigger_band_only(self, images, light_curves, contexts):
        """Points, sums and companions of all bands but the trigger's are gone."""
        images = self.no_companions(images, light_curves, contexts)[0]
        columns = [self.features.index(f"band_{b}") for b in self.bands]
        mask, age, gap = (self.features.index(n) for n in ("mask", "age", "gap"))
        own = light_curves[:, -1][:, columns]
        keep = ((light_curves[:, :, columns] * own[:, None]).sum(2) > 0.5) & (light_curves[:, :, mask] > 0.5)
        order = np.argsort(keep, axis=1, kind="stable")
        curves = np.take_along_axis(light_curves * keep[:, :, None], order[:, :, None], axis=1)
        days = np.expm1(3 * curves[:, :, age])
        there = curves[:, :, mask] > 0.5
        step = np.zeros_like(days)
        step[:, 1:] = np.clip(days[:, :-1] - days[:, 1:], 0, None) * (there[:, 1:] & there[:, :-1])
        curves[:, :, gap] = np.where(keep.sum(1, keepdims=True) < light_curves[:, :, mask].sum(1, keepdims=True),
                                     np.log1p(step) / 3, curves[:, :, gap])  # fmt: skip
        out = contexts.copy()
        for b, band in enumerate(self.bands):
            gone = own[:, b] < 0.5
            for i, name in enumerate(self.context):
                if name.endswith(f"_{band}") and not name.startswith("trigger_"):
                    empty = LONG_AGO if name.startswith("last_detection_age") else 0.0
                    out[gone, i] = empty
        return images, curves, out

    def no_host_facts(self, images, light_curves, contexts):
        """Nothing about the host but what the stamps show: no total flux, no template flux, no catalogue."""
        curves, out = light_curves.copy(), contexts.copy()
        for name in ("total", "has_total"):
            if name in self.features:
                curves[:, :, self.features.index(name)] = 0
        prefixes = ("host_", "has_host_", "template_flux", "has_template_flux", "science_mean", "has_science_mean", "ps1_",
                    "has_ps1_", "reference_", "has_reference_")  # fmt: skip
        for i, name in enumerate(self.context):
            if name.startswith(prefixes):
                out[:, i] = 0
        return images, curves, out
