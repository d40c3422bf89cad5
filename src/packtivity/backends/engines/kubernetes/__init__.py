"""The engine ``kubernetes`` (``kubedirectjob``): each task is a Job in whose pod no worker of ours runs.

``options`` (what the user chose) → ``manifest`` (pure: the objects to send) → ``api`` (sends them) → ``jobs`` (what Jobs
and their pods say). ``engine`` is what the spine needs, ``backend`` what users do.
"""
