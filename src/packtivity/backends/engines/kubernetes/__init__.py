"""The backends ``kubernetes`` and ``kubedirectjob``: each task is a Job, and is published where it is asked for.

``options`` (what the user chose) → ``manifest`` (pure: the objects to send) → ``api`` (sends them) → ``reading`` (pure:
what the objects of the cluster say about a task) → ``settle`` (log, result, record, clean-up). ``backend`` has the verbs.
"""
