"""Where customers are on the web."""

from domain.customers.commands import (
    AddAddress,
    ChangeProfile,
    GiveConsent,
    RegisterCustomer,
    RemoveAddress,
    WithdrawConsent,
)
from domain.customers.views import GetCustomer, ListCustomers
from rayfold import Route

ROUTES = [
    Route("POST", "/customers", RegisterCustomer, derived_id="customer_id"),
    Route("POST", "/customers/{customer_id}/profile", ChangeProfile),
    Route("POST", "/customers/{customer_id}/addresses", AddAddress),
    Route("DELETE", "/customers/{customer_id}/addresses/{label}", RemoveAddress),
    Route("POST", "/customers/{customer_id}/consents", GiveConsent),
    Route("DELETE", "/customers/{customer_id}/consents/{purpose}", WithdrawConsent),
    Route("GET", "/customers/{customer_id}", GetCustomer),
    Route("GET", "/customers", ListCustomers),
]
