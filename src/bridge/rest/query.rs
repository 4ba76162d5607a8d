//! The query of a call: names may repeat, unknown ones (`alt`, `prettyPrint`, …) are left alone.

use std::str::FromStr;

use crate::bridge::google::{ApiError, GatewayType, ListOptions, mask};

/// All pairs of a query, in order.
#[derive(Debug)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl Pairs {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name).last().unwrap_or_default()
    }

    /// A number; 0 if it is missing.
    pub(super) fn number<T: FromStr + Default>(&self, name: &str) -> Result<T, ApiError> {
        match self.text(name) {
            "" => Ok(T::default()),
            text => number(name, text),
        }
    }

    /// A field mask; both spellings of the parameter's name are in use.
    pub(super) fn mask(&self, name: &str) -> Vec<String> {
        mask(&self.all(name).collect::<Vec<_>>().join(","))
    }

    pub(super) fn list_options(&self) -> Result<ListOptions, ApiError> {
        let has_associations = self.0.iter().any(|(key, _)| key.starts_with("gatewayListOptions.associations"));
        if has_associations {
            return Err(ApiError::invalid("Lists by gateway association are not supported here."));
        }
        let gateway_type = match self.text("gatewayListOptions.gatewayType") {
            "" => GatewayType::default(),
            text => serde_json::from_value(text.into()).map_err(|error| {
                ApiError::invalid(format!("Invalid value at 'gateway_list_options.gateway_type': {error}"))
            })?,
        };
        Ok(ListOptions {
            page_size: self.number("pageSize")?,
            page_token: self.text("pageToken").to_owned(),
            fields: self.mask("fieldMask"),
            ids: self.all("deviceIds").map(str::to_owned).collect(),
            numbers: self.all("deviceNumIds").map(|text| number("deviceNumIds", text)).collect::<Result<_, _>>()?,
            gateway_type,
        })
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::invalid(format!("Invalid value at '{name}': '{text}' is no number.")))
}
