"""Helpers of the executable book, in rooms; each imports only from those below it.

``cli`` (the command line) · ``book`` (pages, the built book, publishing) · ``notebooks`` (sessions,
execution, exercises) · ``results`` (tables, archives, contributions) · ``protocol`` (the stages of
the method) and ``charts`` (one module per page), which do not know each other · ``runs`` (identity,
store, executor) · ``analysis`` (intervals, verdicts) · ``config`` (schemas, tiers) · ``errors``,
``files``, ``escaping``.
"""
