"""A backend and a proxy of somebody's own, registered by decorator: yadage-run --plugins old_backend -b later:3."""

from packtivity import datamodel
from packtivity.asyncbackends import PacktivityProxyBase, PythonCallableAsyncBackend
from packtivity.backendutils import backend, is_async, proxyloader


class LaterProxy(PacktivityProxyBase):
    def __init__(self, number):
        super().__init__(proxy=None)
        self.number = number

    def proxyname(self):
        return "LaterProxy"

    def details(self):
        return {"number": self.number}

    @classmethod
    def fromJSON(cls, data):
        return cls(data["proxydetails"]["number"])


class LaterBackend(PythonCallableAsyncBackend):
    """Runs a task when it has been asked about it a few times."""

    def __init__(self, asks, config=None):
        super().__init__(config)
        self.asks = asks
        self.waiting = []
        self.results = {}

    def submit_callable(self, callable):
        self.waiting.append([self.asks, callable])
        return LaterProxy(len(self.waiting) - 1)

    def ready(self, resultproxy):
        entry = self.waiting[resultproxy.number]
        entry[0] -= 1
        if entry[0] == 0:
            try:
                self.results[resultproxy.number] = entry[1]()
            except RuntimeError as error:
                self.results[resultproxy.number] = error
        return resultproxy.number in self.results

    def successful(self, resultproxy):
        return not isinstance(self.results[resultproxy.number], Exception)

    def result(self, resultproxy):
        return self.results[resultproxy.number]

    def fail_info(self, resultproxy):
        return str(self.results[resultproxy.number])


@backend("later")
def later_backend(backendstring, backendopts):
    return is_async, LaterBackend(int(backendstring.split(":")[1]), **backendopts)


@proxyloader("LaterProxy")
def later_proxy(jsondata, deserialization_opts=None, best_effort_backend=False):
    assert datamodel
    proxy = LaterProxy.fromJSON(jsondata)
    return (proxy, LaterBackend(1)) if best_effort_backend else proxy
