"""A Django app that takes uploads, and shows some to everybody and others to who may see them."""

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.files.storage import FileSystemStorage
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of-a-test",
    MEDIA_ROOT=os.environ["MEDIA_ROOT"],
    MEDIA_URL="/media/",
    # Above this size Django keeps an upload in a temporary file, and moves that.
    FILE_UPLOAD_MAX_MEMORY_SIZE=1000,
)
INVOICES = os.environ.get("INVOICES", "")


def healthz(request):
    return HttpResponse("ok")


@csrf_exempt
def upload(request, name):
    """Store the file of a form, and tell at which URL it is."""
    places = {"private": {"location": INVOICES, "base_url": "/invoices/"}}
    storage = FileSystemStorage(**places.get(request.GET.get("to"), {}))
    return JsonResponse({"url": storage.url(storage.save(name, request.FILES["file"]))})


def permitted(request):
    """Lead nginx to what a client asks for, where the client is known."""
    if request.headers.get("Authorization") != "Bearer of-a-friend":
        return HttpResponse(status=403)
    answer = HttpResponse(headers={"X-Accel-Redirect": request.GET["path"]})
    # nginx tells the type by the name.
    del answer["Content-Type"]
    if "cache" in request.GET:
        answer["Cache-Control"] = request.GET["cache"]
    return answer


urlpatterns = [
    path("healthz", healthz),
    path("upload/<path:name>", upload),
    path("permitted", permitted),
]
django.setup()
application = get_asgi_application()
