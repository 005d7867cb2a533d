//! Engine: where what was found was found, in what is shown of the effective configuration.

use serde_json::Value;

use super::super::value::{Config, Traffic};

/// Says of everything that was found where that was, in `places` of the effective configuration.
pub fn mark(config: &Config, places: &mut Value) {
    for pool in &config.pools {
        let Some(place) = places.pointer_mut(&format!("/pool/{}", pool.name.value)) else { continue };
        if let Some(from) = &pool.found {
            fill(place, from);
        }
        let staying = pool.endpoints.iter().filter(|endpoint| !endpoint.leaving);
        let places = place.get_mut("endpoints").and_then(Value::as_array_mut);
        for (place, endpoint) in places.into_iter().flatten().zip(staying) {
            if let Some(from) = &endpoint.found {
                fill(place, from);
            }
        }
    }
    for service in &config.services {
        let Traffic::L7(l7) = &service.traffic else { continue };
        let routes =
            places.pointer_mut(&format!("/service/{}/route", service.name.value)).and_then(Value::as_array_mut);
        let listed = l7.routes.iter().filter(|route| !route.is_default);
        for (place, route) in routes.into_iter().flatten().zip(listed) {
            if let Some(from) = &route.found {
                fill(place, from);
            }
        }
    }
}

fn fill(place: &mut Value, from: &str) {
    match place {
        Value::Object(map) => map.values_mut().for_each(|value| fill(value, from)),
        Value::Array(elements) => elements.iter_mut().for_each(|value| fill(value, from)),
        other => *other = from.into(),
    }
}
