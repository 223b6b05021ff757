// WCAG 2.2's contrast of every text with what lies behind it: [[ratio, where], …].
() => {
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const speaks = (element) =>
    !["SCRIPT", "title"].includes(element.tagName) &&
    element.checkVisibility() &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const contrast = (element) => {
    const style = getComputedStyle(element);
    const colour = parse(element.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [less, more] = [light(colour), light(behind(element))].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
  };
  const where = (element) => `${element.tagName}: ${element.textContent.trim().slice(0, 40)}`;
  return [...document.querySelectorAll("body *")].filter(speaks).map((e) => [contrast(e), where(e)]);
}
