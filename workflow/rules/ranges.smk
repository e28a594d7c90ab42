for target in ranges_asked():

    rule:
        # A rule that has no output can be asked for by its name: no file is made that is called so.
        name:
            target
        input:
            targets_of(target),
        localrule: True
