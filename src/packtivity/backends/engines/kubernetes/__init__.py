"""The engine ``kubernetes`` (``kubedirectjob``): each task is a Job in whose pod no worker of ours runs.

``options`` (what the user chose) → ``planning`` and ``manifest`` (pure: the objects to send) → ``api`` (sends them) → ``reading``
(pure: what a Job and its pods say), found by ``listing``. ``engine`` is what the spine needs, ``backend`` what users do.
"""
