// Places along a score's axis: log-odds as they are, probabilities by their logit, since they crowd at both ends.

const EDGE = 1e-12;

export function scaleOf(range) {
  if (range[1] > 1) {
    return {
      to: (score) => score,
      from: (place) => Number(place.toFixed(2)),
      step: 0.01,
      page: 0.5,
      ticks: null,
    };
  }
  const to = (p) => {
    const q = Math.min(Math.max(p, EDGE), 1 - EDGE);
    return Math.log(q / (1 - q));
  };
  const from = (place) => Number((1 / (1 + Math.exp(-place))).toPrecision(place > 4 ? 12 : 5));
  const values = [1e-9, 1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999];
  return { to, from, step: 0.01, page: 0.5, ticks: { vals: values.map(to), text: values.map(String) } };
}
