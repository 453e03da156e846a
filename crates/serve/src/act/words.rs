//! The words of the pages of links, in English and French.
//!
//! **Invariant.** Times are in UTC. Strings from outside are put into pages by `maud`, which escapes them.

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use monitor_core::domain::{Incident, Label, STREAM};
use monitor_core::links::LinkAct;

/// The language of a page. There is no script that could remember a choice, so the browser's wish decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    English,
    French,
}

use Words::{English, French};

impl Words {
    /// The language that a browser prefers; English if it asks for neither.
    pub fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
        let weight = |wanted: &str| {
            let of = |item: &str| {
                let (name, weight) = item.split_once(";q=").unwrap_or((item, "1"));
                let name = name.trim().split('-').next().unwrap_or_default();
                name.eq_ignore_ascii_case(wanted).then(|| weight.trim().parse().unwrap_or(0.0))
            };
            let weights = accepted.unwrap_or_default().split(',').filter_map(of);
            weights.fold(0.0, f64::max)
        };
        // At the same weight the first one counts, as in most browsers' lists.
        let first = |name: &str| accepted.and_then(|it| it.to_lowercase().find(name));
        let (french, english) = (weight("fr"), weight("en"));
        if french > english || (french > 0.0 && french == english && first("fr") < first("en")) {
            French
        } else {
            English
        }
    }

    fn choose(self, english: &'static str, french: &'static str) -> &'static str {
        match self {
            English => english,
            French => french,
        }
    }

    pub fn code(self) -> &'static str {
        self.choose("en", "fr")
    }

    fn moment(self, at: DateTime<Utc>) -> String {
        let form = self.choose("%-d %b %Y, %H:%M UTC", "%d/%m/%Y à %H:%M UTC");
        at.format(form).to_string()
    }

    pub fn acknowledge(self) -> String {
        self.choose("Acknowledge this alert?", "Prendre cette alerte en charge ?").to_owned()
    }

    pub fn acknowledge_hint(self, incident: &Incident) -> Markup {
        let (id, opened) = (incident.id, self.moment(incident.opened.start()));
        let brand = match incident.brand.as_str() {
            STREAM => self.choose("The stream itself", "Le flux lui-même"),
            brand => brand,
        };
        html! {
            p {
                b { (brand) }
                @match self {
                    English => { ": incident " (id) ", open since " (opened) "." },
                    French => { " : incident " (id) ", en cours depuis le " (opened) "." },
                }
            }
            @if let Some(before) = &incident.acknowledged {
                p {
                    @match self {
                        English => { "Already acknowledged by " (before.by) ", " (self.moment(before.at)) "." },
                        French => { "Déjà prise en charge par " (before.by) ", le " (self.moment(before.at)) "." },
                    }
                }
            }
            p {
                (self.choose(
                    "It is then not repeated, unless it gets worse. Its end is still told.",
                    "Elle n’est alors plus répétée, sauf si elle s’aggrave. Sa fin est annoncée.",
                ))
            }
        }
    }

    pub fn silence(self, brand: &str, hours: u32) -> String {
        let plural = if hours == 1 { "" } else { "s" };
        match self {
            English => format!("Silence {brand} for {hours} hour{plural}?"),
            French => format!("Silence pour {brand} pendant {hours} heure{plural} ?"),
        }
    }

    pub fn silence_hint(self) -> Markup {
        html! {
            p {
                (self.choose(
                    "Nobody is told of its alerts in that time. They are still recorded.",
                    "Personne n’est prévenu de ses alertes pendant ce temps. Elles restent enregistrées.",
                ))
            }
        }
    }

    pub fn not_negative(self) -> &'static str {
        self.choose("Is this tweet not negative?", "Ce tweet n’est-il pas négatif ?")
    }

    pub fn not_negative_hint(self, text: &str) -> Markup {
        html! {
            blockquote { (text) }
            p {
                (self.choose(
                    "The model called it negative. Your answer is kept to train the next model; no share changes.",
                    "Le modèle l’a jugé négatif. Votre réponse sert à entraîner le prochain modèle ; aucune part ne change.",
                ))
            }
        }
    }

    pub fn label(self, label: Label) -> &'static str {
        match label {
            Label::Negative => self.choose("Negative", "Négatif"),
            Label::Neutral => self.choose("It is neutral", "Il est neutre"),
            Label::Positive => self.choose("It is positive", "Il est positif"),
        }
    }

    pub fn button(self, act: &LinkAct) -> &'static str {
        match act {
            LinkAct::Acknowledge { .. } => self.choose("Acknowledge", "Prendre en charge"),
            LinkAct::Silence { .. } => self.choose("Silence", "Mettre en silence"),
            LinkAct::NotNegative { .. } => self.choose("Say so", "Le dire"),
        }
    }

    pub fn in_the_name(self, by: &str) -> Markup {
        html! { (self.choose("Recorded as done by ", "Enregistré au nom de ")) b { (by) } "." }
    }

    pub fn works_once(self, until: DateTime<Utc>) -> String {
        let until = self.moment(until);
        match self {
            English => format!("This link works once, until {until}, for whoever has it."),
            French => format!("Ce lien sert une fois, jusqu’au {until}, à quiconque l’a."),
        }
    }

    pub fn done(self) -> &'static str {
        self.choose("Done.", "C’est fait.")
    }

    pub fn used(self) -> &'static str {
        self.choose("This was done already.", "C’est déjà fait.")
    }

    pub fn used_by(self, by: &str, at: DateTime<Utc>) -> String {
        let at = self.moment(at);
        match self {
            English => format!("By {by}, {at}. A link works once."),
            French => format!("Par {by}, le {at}. Un lien sert une fois."),
        }
    }

    pub fn over(self) -> &'static str {
        self.choose("This alert has ended already.", "Cette alerte est déjà terminée.")
    }

    pub fn missing(self) -> &'static str {
        self.choose("It is not stored any more.", "Ce n’est plus enregistré.")
    }

    pub fn no_brand(self) -> &'static str {
        self.choose("This brand is not watched any more.", "Cette marque n’est plus surveillée.")
    }

    pub fn no_label(self) -> &'static str {
        self.choose("Choose: neutral or positive.", "Choisissez : neutre ou positif.")
    }

    pub fn invalid(self) -> &'static str {
        self.choose(
            "This link is not valid: it was cut off or changed, or the monitor has a new key.",
            "Ce lien n’est pas valable : il a été coupé ou modifié, ou le moniteur a une nouvelle clé.",
        )
    }

    pub fn expired(self) -> &'static str {
        self.choose("This link has expired.", "Ce lien a expiré.")
    }

    pub fn expired_at(self, until: DateTime<Utc>) -> String {
        let until = self.moment(until);
        match self {
            English => format!("It worked until {until}. Act on the page of the monitor."),
            French => format!("Il servait jusqu’au {until}. Agissez sur la page du moniteur."),
        }
    }

    pub fn no_links(self) -> &'static str {
        self.choose("Links are turned off here.", "Les liens sont désactivés ici.")
    }

    pub fn too_long(self) -> &'static str {
        self.choose("The request is too long.", "La requête est trop longue.")
    }

    pub fn away(self) -> &'static str {
        self.choose(
            "The monitor cannot reach its database. Nothing is known to have changed: try again in a minute.",
            "Le moniteur ne peut pas joindre sa base de données. Réessayez dans une minute.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_the_language_that_a_browser_prefers() {
        for (accepted, expected) in [
            (None, English),
            (Some(""), English),
            (Some("*"), English),
            (Some("fr"), French),
            (Some("fr-CA,fr;q=0.9,en;q=0.8"), French),
            (Some("en-GB,fr;q=0.9"), English),
            (Some("de-DE,de;q=0.9,fr;q=0.7,en;q=0.6"), French),
            (Some("fr;q=0.5, en;q=0.6"), English),
            (Some("en,fr"), English),
            (Some("fr,en"), French),
            (Some("fr;q=x"), English),
            (Some("frr"), English),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accepted) = accepted {
                headers.insert(header::ACCEPT_LANGUAGE, accepted.parse().expect("a value"));
            }
            assert_eq!(Words::of(&headers), expected, "{accepted:?}");
        }
    }
}
