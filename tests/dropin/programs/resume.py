"""Go on with a workflow whose model is in a file: resume.py METADIR MODEL BACKEND."""

import sys

from yadage.steering_object import YadageSteering
from yadage.utils import setupbackend_fromstring

metadir, model, backend = sys.argv[1:]
steering = YadageSteering.connect(metadir, "frommodel", modelsetup=f"filebacked:{model}", accept_metadir=True)
steering.adage_argument(default_trackers=False, update_interval=0.01)
steering.run_adage(setupbackend_fromstring(backend))
steering.serialize()
