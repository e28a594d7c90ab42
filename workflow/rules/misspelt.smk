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
