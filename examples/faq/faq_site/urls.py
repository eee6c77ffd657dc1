"""Both versions of the API, side by side over the same questions."""

from django.urls import include, path

from questions import views


def api(version: int) -> tuple[list, str]:
    """The routes of one version, and their namespace."""
    routes = [
        path("create", views.Create.as_view(version=version), name="create"),
        path("questions", views.QuestionList.as_view(version=version), name="questions"),
        path("questions/<int:pk>", views.QuestionDetail.as_view(version=version), name="question"),
    ]
    return routes, f"v{version}"


urlpatterns = [
    path("v1/", include(api(1))),
    path("v2/", include(api(2))),
]

handler400 = "questions.errors.bad_request"
handler404 = "questions.errors.not_found"
handler500 = "questions.errors.server_error"
