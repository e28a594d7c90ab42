"""What stands in an SVG as text, for whoever looks and whoever listens."""

from defusedxml.ElementTree import fromstring

SVG = "{http://www.w3.org/2000/svg}"


def written(content: bytes) -> list[str]:
    """Return all that stands in an SVG as text, title and description first: readers for the blind find them."""
    root = fromstring(content)
    title, description = root[0], root[1]
    assert title.text
    assert description.text
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
    return [title.text, description.text, *("".join(each.itertext()) for each in root.iter(f"{SVG}text"))]
