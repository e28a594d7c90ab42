import re

from halfpipe.errors import IdError
from halfpipe.ids import Downlinks


@in_words
def refuse_misspelt(wildcards):
    """Name the mistake in a target."""
    word = re.sub(r"^(dl|submit|pictures)=", "", wildcards.misspelt)
    Downlinks(word)
    if DownlinkId.matches(word):
        raise IdError(f"no target is called {word}: snakemake dl={word}")
    raise IdError(f"{word} is no target: snakemake --config dl={word}, or halfpipe process {word}")


rule misspelt:
    """Name the mistake in a target that looks like a downlink and is none, before anything is begun.

    Uses wildcard `misspelt`.
    """
    input:
        refuse_misspelt,
    output:
        "{misspelt}",
    wildcard_constraints:
        misspelt=rf"(?:(?:dl|submit|pictures)=(?!{DownlinkId.PATTERN}$)|(?=[0-9]))[^/]*",
    localrule: True
